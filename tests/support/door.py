"""The router of a running cluster as a client sees it, and the form that its errors have."""

import json
import socket
from typing import Any

import httpx

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
JSON = {"content-type": "application/json"}

Body = dict[str, Any]

BASES: dict[str, Body] = {
    CHAT: {"model": "tiny", "messages": [{"role": "user", "content": "1 2 3"}], "max_tokens": 1},
    TEXT: {"model": "tiny", "prompt": "1 2 3", "max_tokens": 1},
}
WHOLE_BODY = json.dumps(BASES[TEXT]).encode()


class Door:
    """The router of the running cluster, as a client of it."""

    def __init__(self, url: str, http: httpx.Client) -> None:
        self.url = url
        self.http = http
        model = self.http.get("/v1/models").json()["data"][0]
        self.context = int(model["max_model_len"])

    def refused(
        self, path: str, body: Body | bytes, status: int = 400, **options: Any
    ) -> dict[str, Any]:
        """The error that `body` is answered with."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = self.http.post(path, content=content, **options)
        assert answer.status_code == status, answer.text
        return error_of(answer)

    def serves(self) -> None:
        """Asserts that a good request is answered."""
        for path, base in BASES.items():
            answer = self.http.post(path, json=base)
            assert answer.status_code == 200, answer.text

    def says(self, sent: bytes, until: bytes) -> bytes:
        """What a raw connection answers to `sent`, up to `until` or its end."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(sent)
            answer = b""
            while until not in answer and (piece := connection.recv(4096)):
                answer += piece
        return answer


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The error in an answer, which has OpenAI's form."""
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert len(error["message"]) < 1000
    expected = "invalid_request_error" if answer.status_code < 500 else "server_error"
    assert error["type"] == expected
    return error
