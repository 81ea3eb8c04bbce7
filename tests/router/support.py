"""How the tests ask, and what the echo workers must have answered."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tokenizers import Tokenizer

WORDS = "zero one two three four five six seven eight nine ten eleven twelve. "
"""No part of it repeats, so a token that is lost or comes twice shows in the text."""


def tokens_of(model: Path, text: str = WORDS) -> list[int]:
    """The token ids of a text."""
    return list(Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids)


@dataclass
class Stream:
    """What came of a streamed request, event by event."""

    status: int = 0
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    events: list[dict[str, Any]] = field(default_factory=list)
    done: bool = False

    @property
    def error(self) -> dict[str, Any] | None:
        """The error event, when there was one."""
        return next((event["error"] for event in self.events if "error" in event), None)

    @property
    def choices(self) -> list[dict[str, Any]]:
        return [choice for event in self.events for choice in event.get("choices", [])]

    @property
    def text(self) -> str:
        return "".join(
            c["text"] if "text" in c else c["delta"].get("content") or "" for c in self.choices
        )

    @property
    def usage(self) -> dict[str, Any]:
        return next(event["usage"] for event in self.events if event.get("usage"))

    @property
    def finish(self) -> str | None:
        return next((c["finish_reason"] for c in self.choices if c["finish_reason"]), None)


async def read_stream(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Stream:
    """Sends a request with `stream` and reads all that comes."""
    stream = Stream()
    async with client.stream("POST", path, json=body | STREAMED) as response:
        stream.status, stream.headers = response.status_code, response.headers
        async for line in response.aiter_lines():
            if line == "data: [DONE]":
                stream.done = True
            elif line.startswith("data: "):
                stream.events.append(json.loads(line.removeprefix("data: ")))
    return stream


STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


def completion(prompt: Any, max_tokens: int, **more: Any) -> dict[str, Any]:
    """A completion that ends by length alone."""
    return {"model": "echo", "prompt": prompt, "max_tokens": max_tokens, "ignore_eos": True} | more
