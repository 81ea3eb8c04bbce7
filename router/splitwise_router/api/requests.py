"""Request bodies of both endpoints, checked strictly: nothing is coerced, nothing is ignored."""

import re
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from splitwise_core.rpc.worker_pb2 import Sampling
from splitwise_router.api.messages import Messages
from splitwise_router.api.parsing import parse, shown

MAX_STOPS: Final = 4
MAX_CHOICES: Final = 8
MAX_BIASES: Final = 1024
_TOKEN_ID: Final = 2**31 - 1

_BIASED: Final = re.compile(r"0|[1-9][0-9]{0,8}")
"""A token id as the key of an object: one spelling only, so that none is meant twice."""

TokenId = Annotated[int, Field(ge=0, le=_TOKEN_ID)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class StreamOptions(_Strict):
    """What a stream carries beside text."""

    include_usage: bool = False


class ResponseFormat(_Strict):
    """Text is the only form of answer here."""

    type: Literal["text"]


class _Generation(_Strict):
    """What both endpoints have in common."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] = 1
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | list[str] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    # What is above 0 but below these becomes 0 in the single precision that workers are told in.
    top_p: Annotated[float, Field(ge=1e-6, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=-1, le=_TOKEN_ID)] = -1
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] = 1.0
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] = {}
    ignore_eos: bool = False
    stop_token_ids: Annotated[list[TokenId], Field(max_length=64)] = []
    user: str | None = None

    @field_validator("stop")
    @classmethod
    def _stops_are_few_and_not_empty(cls, value: str | list[str] | None) -> str | list[str] | None:
        stops = [value] if isinstance(value, str) else value or []
        if len(stops) > MAX_STOPS:
            raise ValueError(f"at most {MAX_STOPS} stop strings are possible, got {len(stops)}")
        if not all(stops):
            raise ValueError("a stop string must not be empty; leave it out")
        return value

    @field_validator("logit_bias")
    @classmethod
    def _biases_name_tokens(cls, value: dict[str, float]) -> dict[str, float]:
        if len(value) > MAX_BIASES:
            raise ValueError(f"at most {MAX_BIASES} biases are possible, got {len(value)}")
        for key in value:
            if not _BIASED.fullmatch(key):
                raise ValueError(f"keys are token ids as text, such as '42'; got {shown(key)}")
        return value

    @model_validator(mode="after")
    def _options_go_with_a_stream(self) -> "_Generation":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options: only possible with stream: true")
        return self

    @property
    def named_tokens(self) -> dict[str, int]:
        """The largest token id that each field names, apart from prompts."""
        return {
            "logit_bias": max(map(int, self.logit_bias), default=0),
            "stop_token_ids": max(self.stop_token_ids, default=0),
        }

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with a chunk that tells the usage."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    def _sampling(self, seed: int, max_tokens: int, logprobs: int | None) -> Sampling:
        sampling = Sampling(
            temperature=self.temperature,
            top_k=max(0, self.top_k),
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=seed % 2**64,
            max_tokens=max_tokens,
            stop_token_ids=self.stop_token_ids,
            ignore_eos=self.ignore_eos,
            logit_bias={int(token): bias for token, bias in self.logit_bias.items()},
        )
        if logprobs is not None:
            sampling.logprobs = logprobs
        return sampling


class ChatCompletionRequest(_Generation):
    """POST /v1/chat/completions."""

    messages: Messages
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    want_logprobs: Annotated[bool, Field(alias="logprobs")] = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None

    @model_validator(mode="after")
    def _fields_go_together(self) -> "ChatCompletionRequest":
        if self.top_logprobs is not None and not self.want_logprobs:
            raise ValueError("top_logprobs: only possible with logprobs: true")
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("max_tokens: the same as max_completion_tokens; send one of them")
        return self

    @property
    def logprobs(self) -> int | None:
        """Alternatives to tell for each token; None: no log-probabilities at all."""
        return (self.top_logprobs or 0) if self.want_logprobs else None

    @property
    def longest(self) -> int | None:
        """Tokens to generate at most, under either of its names."""
        return self.max_tokens or self.max_completion_tokens

    @property
    def longest_field(self) -> str:
        """The name under which `longest` was sent."""
        return "max_tokens" if self.max_tokens else "max_completion_tokens"

    def sampling(self, *, seed: int, max_tokens: int) -> Sampling:
        """How the workers sample."""
        return self._sampling(seed, max_tokens, self.logprobs)


class CompletionRequest(_Generation):
    """POST /v1/completions."""

    prompt: (
        str
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[str], Field(min_length=1, max_length=128)]
        | Annotated[
            list[Annotated[list[TokenId], Field(min_length=1)]],
            Field(min_length=1, max_length=128),
        ]
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def prompts(self) -> list[str | list[int]]:
        """One or several prompts, each as text or as tokens."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[int(token) for token in self.prompt]]
        return list(self.prompt)

    @property
    def longest(self) -> int | None:
        """Tokens to generate at most."""
        return self.max_tokens

    @property
    def longest_field(self) -> str:
        """The name under which `longest` was sent."""
        return "max_tokens"

    def sampling(self, *, seed: int, max_tokens: int) -> Sampling:
        """How the workers sample."""
        return self._sampling(seed, max_tokens, self.logprobs)


def parse_chat(body: bytes, content_type: str | None) -> ChatCompletionRequest:
    """The request in a body. Raises ApiError naming the field and the fix."""
    return parse(ChatCompletionRequest, body, content_type)


def parse_completion(body: bytes, content_type: str | None) -> CompletionRequest:
    """The request in a body. Raises ApiError naming the field and the fix."""
    return parse(CompletionRequest, body, content_type)
