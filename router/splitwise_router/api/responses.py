"""Answers as bodies: whole ones as objects, chunks of a stream as bytes built by hand.

A chunk is what every token costs, so all of it that does not change is made once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from splitwise_core.rpc.worker_pb2 import TokenLogprobs
from splitwise_router.api.errors import ApiError

DONE: Final = b"data: [DONE]\n\n"

Kind = Literal["chat", "completion"]
_OBJECTS: Final = {"chat": "chat.completion", "completion": "text_completion"}
_CHUNKS: Final = {"chat": "chat.completion.chunk", "completion": "text_completion"}

WholeChoice = tuple[int, str, str, Sequence[int], Sequence[TokenLogprobs] | None]
"""Index, text, finish reason, tokens, and their log-probabilities when asked for."""


class TokenTexts(Protocol):
    """What is needed of a tokenizer."""

    def token_text(self, token: int) -> str:
        """One token by itself."""

    def token_bytes(self, token: int) -> list[int]:
        """Its UTF-8 bytes."""


@dataclass(frozen=True, slots=True)
class About:
    """What every part of one answer repeats."""

    kind: Kind
    id: str
    created: int
    model: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of a request, and the times of its stages in milliseconds, as far as it has them."""

    prompt_tokens: int
    cached_tokens: int  # of the prompt's: found in a worker's prefix cache
    completion_tokens: int
    queue_ms: float | None
    prefill_ms: float | None
    transfer_ms: float | None
    first_decode_ms: float | None
    kv_bytes: int
    transport: str

    def body(self) -> dict[str, object]:
        """The `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
            "splitwise": {
                "queue_ms": self.queue_ms,
                "prefill_ms": self.prefill_ms,
                "transfer_ms": self.transfer_ms,
                "first_decode_ms": self.first_decode_ms,
                "kv_bytes": self.kv_bytes,
                "transport": self.transport,
            },
        }


class ChunkWriter:
    """The events of one choice of a stream."""

    def __init__(
        self, about: About, index: int, tokenizer: TokenTexts, *, include_usage: bool
    ) -> None:
        self._chat = about.kind == "chat"
        self._tokenizer = tokenizer
        self._offset = 0
        usage = ', "usage": null' if include_usage else ""
        self._prefix = f'{_opening(about)}, "choices": [{{"index": {index}, '
        self._suffix = f"}}]{usage}}}\n\n"
        content = '"delta": {"content": ' if self._chat else '"text": '
        self._text_prefix = self._prefix + content
        self._text_suffix = "}" if self._chat else ""
        self._plain_suffix = (
            f'{self._text_suffix}, "logprobs": null, "finish_reason": null{self._suffix}'
        )

    def head(self) -> bytes:
        """The first event of a chat, which says who speaks."""
        if not self._chat:
            return b""
        delta = '"delta": {"role": "assistant", "content": ""}'
        end = f', "logprobs": null, "finish_reason": null{self._suffix}'
        return f"{self._prefix}{delta}{end}".encode()

    def text(
        self,
        text: str,
        tokens: Sequence[int] = (),
        logprobs: Sequence[TokenLogprobs] | None = None,
    ) -> bytes:
        """An event with text, and with the log-probabilities of its tokens when given."""
        quoted = json.dumps(text, ensure_ascii=False)
        if logprobs is None:
            return f"{self._text_prefix}{quoted}{self._plain_suffix}".encode()
        told = _logprobs(self._chat, self._tokenizer, tokens, logprobs, self._offset)
        self._offset += len(text)
        found = json.dumps(told, ensure_ascii=False)
        end = f'{self._text_suffix}, "logprobs": {found}, "finish_reason": null{self._suffix}'
        return f"{self._text_prefix}{quoted}{end}".encode()

    def end(self, finish: str) -> bytes:
        """The last event of the choice."""
        nothing = '"delta": {}' if self._chat else '"text": ""'
        end = f', "logprobs": null, "finish_reason": "{finish}"{self._suffix}'
        return f"{self._prefix}{nothing}{end}".encode()


def usage_chunk(about: About, usage: Usage) -> bytes:
    """The event after the last choice, with the usage of all."""
    told = json.dumps(usage.body())
    return f'{_opening(about)}, "choices": [], "usage": {told}}}\n\n'.encode()


def error_event(error: ApiError) -> bytes:
    """The event that ends a stream which cannot go on; no [DONE] follows it."""
    return f"data: {json.dumps(error.body(), ensure_ascii=False)}\n\n".encode()


def whole_response(
    about: About, choices: Sequence[WholeChoice], tokenizer: TokenTexts, usage: Usage
) -> dict[str, object]:
    """The body of an answer that is not streamed."""
    return {
        "id": about.id,
        "object": _OBJECTS[about.kind],
        "created": about.created,
        "model": about.model,
        "choices": [_whole_choice(about.kind == "chat", choice, tokenizer) for choice in choices],
        "usage": usage.body(),
    }


def _whole_choice(chat: bool, choice: WholeChoice, tokenizer: TokenTexts) -> dict[str, object]:
    index, text, finish, tokens, logprobs = choice
    told = None if logprobs is None else _logprobs(chat, tokenizer, tokens, logprobs, 0)
    said: dict[str, object] = (
        {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    )
    return {"index": index, **said, "logprobs": told, "finish_reason": finish}


def _opening(about: About) -> str:
    fields = {
        "id": about.id,
        "object": _CHUNKS[about.kind],
        "created": about.created,
        "model": about.model,
    }
    return f"data: {json.dumps(fields)[:-1]}"


def _logprobs(
    chat: bool,
    tokenizer: TokenTexts,
    tokens: Sequence[int],
    logprobs: Sequence[TokenLogprobs],
    offset: int,
) -> dict[str, Any]:
    pairs = list(zip(tokens, logprobs, strict=False))
    if chat:
        return {"content": [_chat_token(tokenizer, token, told) for token, told in pairs]}
    texts = [tokenizer.token_text(token) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [told.logprob for _, told in pairs],
        "top_logprobs": [
            {
                tokenizer.token_text(token): logprob
                for token, logprob in zip(told.top_tokens, told.top_logprobs, strict=True)
            }
            for _, told in pairs
        ],
        "text_offset": offsets,
    }


def _chat_token(tokenizer: TokenTexts, token: int, told: TokenLogprobs) -> dict[str, Any]:
    def one(token: int, logprob: float) -> dict[str, Any]:
        text = tokenizer.token_text(token)
        return {"token": text, "logprob": logprob, "bytes": tokenizer.token_bytes(token)}

    top = zip(told.top_tokens, told.top_logprobs, strict=True)
    return one(token, told.logprob) | {"top_logprobs": [one(*alternative) for alternative in top]}
