"""`splitwise chat`: a conversation with the model, streamed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from splitwise_cli.runner.state import StateDir, default_state_dir
from splitwise_core.errors import UserError

Message = dict[str, str]


def chat(url: str | None, message: str | None, max_tokens: int, state_dir: Path | None) -> None:
    """Asks once with `message`, else reads questions until end of input."""
    if url is None:
        state = StateDir((state_dir or default_state_dir()).absolute())
        url = str(state.running()["endpoint"])
    try:
        client = httpx.Client(
            base_url=url.rstrip("/").removesuffix("/v1"), timeout=httpx.Timeout(600, connect=5)
        )
    except httpx.InvalidURL as error:
        fix = "write it as http://HOST:PORT"
        raise UserError("not-running", where="--url", wrong=f"{url}: {error}", fix=fix) from error
    with client:
        model = _model(client)
        if message is not None:
            _answer(client, model, [{"role": "user", "content": message}], max_tokens)
            return
        history: list[Message] = []
        for question in _questions():
            history.append({"role": "user", "content": question})
            said = _answer(client, model, history, max_tokens)
            history.append({"role": "assistant", "content": said})


def _questions() -> Iterator[str]:
    while True:
        try:
            text = input("> ").strip()
        except EOFError:
            return
        if text:
            yield text


def _model(client: httpx.Client) -> str:
    try:
        return str(client.get("/v1/models").raise_for_status().json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
        raise UserError(
            "not-running",
            where=str(client.base_url),
            wrong=f"no router answers there: {error}",
            fix="start a cluster with `splitwise up`, or name another --url",
        ) from error


def _answer(client: httpx.Client, model: str, history: list[Message], max_tokens: int) -> str:
    """Prints the answer as it comes and returns it. Raises UserError when it ends in an error."""
    body = {"model": model, "messages": history, "stream": True, "max_tokens": max_tokens}
    said = ""
    try:
        with client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.is_error:
                response.read()
                raise _refused(response.json())
            for piece in _pieces(response.iter_lines()):
                said += piece
                sys.stdout.write(piece)
                sys.stdout.flush()
    except httpx.HTTPError as error:
        raise _refused({"error": {"message": f"the connection was lost: {error}"}}) from error
    sys.stdout.write("\n")
    return said


def _pieces(lines: Iterator[str]) -> Iterator[str]:
    """The texts of a stream's events. Raises UserError when it ends in an error."""
    for line in lines:
        data = line.removeprefix("data: ")
        if not data or data == "[DONE]":
            continue
        event = json.loads(data)
        if "error" in event:
            raise _refused(event)
        for choice in event["choices"]:
            yield choice["delta"].get("content") or ""


def _refused(body: dict[str, Any]) -> UserError:
    return UserError(
        "request-failed",
        where="the router",
        wrong=body["error"]["message"],
        fix="change the question, or see `splitwise status`",
    )
