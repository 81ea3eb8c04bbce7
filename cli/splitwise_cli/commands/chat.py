"""`splitwise chat`: a conversation with the model, streamed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from splitwise_cli.endpoint import open_router, served_model
from splitwise_core.errors import UserError

ANSWER_S: Final = 600.0

Message = dict[str, str]


def chat(url: str | None, message: str | None, max_tokens: int, state_dir: Path | None) -> None:
    """Asks once with `message`, else reads questions until end of input."""
    with open_router(url, state_dir, ANSWER_S) as client:
        model = served_model(client)["id"]
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
