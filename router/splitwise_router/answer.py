"""The answer to one HTTP request: its choices side by side, streamed or whole."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Literal

from splitwise_core.rpc.worker_pb2 import Stages, TokenLogprobs
from splitwise_router.api import responses
from splitwise_router.api.requests import ChatCompletionRequest, CompletionRequest
from splitwise_router.choice import Clock, Delta, deltas
from splitwise_router.dispatch import Dispatcher
from splitwise_router.exchange import Exchange
from splitwise_router.generation import Generation
from splitwise_router.text.stream import TextStream
from splitwise_router.text.tokenizer import Tokenizer


@dataclass(slots=True)
class Asked:
    """A request that was read and found good, and its prompts as tokens."""

    kind: Literal["chat", "completion"]
    request: ChatCompletionRequest | CompletionRequest
    prompts: Sequence[list[int]]
    max_tokens: int
    seed: int = 0

    def __post_init__(self) -> None:
        given = self.request.seed
        self.seed = secrets.randbits(63) if given is None else given


@dataclass(slots=True)
class Choice:
    """One choice and what came of it so far; the text is kept only for whole answers."""

    index: int
    generation: Generation
    text: TextStream
    parts: list[str] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish: str = ""


class Answer:
    """Runs the choices of one request and sends what they say."""

    def __init__(
        self,
        exchange: Exchange,
        asked: Asked,
        choices: Sequence[Choice],
        model: str,
        tokenizer: Tokenizer,
        dispatcher: Dispatcher,
        clock: Clock,
    ) -> None:
        prefix = "chatcmpl-" if asked.kind == "chat" else "cmpl-"
        self._about = responses.About(
            kind=asked.kind,
            id=prefix + secrets.token_hex(12),
            created=int(time.time()),
            model=model,
        )
        self._exchange = exchange
        self._asked = asked
        self._choices = choices
        self._tokenizer = tokenizer
        self._dispatcher = dispatcher
        self._clock = clock
        self._starting = asyncio.Lock()

    async def send(self) -> None:
        """The whole exchange. Raises ApiError, before or after the answer has begun."""
        if not self._asked.request.stream:
            await _together([self._collect(choice) for choice in self._choices])
            await self._exchange.answer(200, self._whole(), self._workers(self._choices[0]))
            return
        await _together([self._stream(choice) for choice in self._choices])
        last = responses.DONE
        if self._asked.request.include_usage:
            last = responses.usage_chunk(self._about, self._usage()) + last
        await self._exchange.write(last, last=True)

    async def _stream(self, choice: Choice) -> None:
        """Sends a choice as it grows: one event for each step that brought text."""
        asked = self._asked.request
        writer = responses.ChunkWriter(
            self._about, choice.index, self._tokenizer, include_usage=asked.include_usage
        )
        begun = False
        async with aclosing(self._deltas(choice)) as coming:
            async for delta in coming:
                data = b""
                if not begun:
                    begun = True
                    await self._start(choice)
                    data = writer.head()
                data += self._event(writer, delta)
                if data:
                    await self._exchange.write(data)

    def _event(self, writer: responses.ChunkWriter, delta: Delta) -> bytes:
        """What the client reads of a delta; nothing while its text is held back."""
        data = b""
        if self._asked.request.logprobs is not None and delta.tokens:
            data = writer.text(delta.text, delta.tokens, delta.logprobs)
        elif delta.text:
            data = writer.text(delta.text)
        return data + writer.end(delta.finish) if delta.finish is not None else data

    async def _collect(self, choice: Choice) -> None:
        async with aclosing(self._deltas(choice)) as coming:
            async for delta in coming:
                choice.parts.append(delta.text)
                choice.tokens += delta.tokens
                choice.logprobs += delta.logprobs
                choice.finish = delta.finish or ""

    def _deltas(self, choice: Choice) -> AsyncGenerator[Delta, None]:
        arrived_s = self._exchange.arrived_s
        return deltas(choice.generation, choice.text, self._dispatcher, self._clock, arrived_s)

    async def _start(self, choice: Choice) -> None:
        """Sends the headers, with the workers of the choice that came first."""
        if self._exchange.status == 0:
            async with self._starting:
                if self._exchange.status == 0:
                    await self._exchange.start_stream(self._workers(choice))

    def _whole(self) -> dict[str, object]:
        """The body of an answer that is sent as a whole."""
        with_logprobs = self._asked.request.logprobs is not None
        choices = [
            (c.index, "".join(c.parts), c.finish, c.tokens, c.logprobs if with_logprobs else None)
            for c in self._choices
        ]
        return responses.whole_response(self._about, choices, self._tokenizer, self._usage())

    def _usage(self) -> responses.Usage:
        """Tokens of all choices, and the stages of the first one."""
        stages = self._choices[0].generation.stages
        return responses.Usage(
            prompt_tokens=sum(len(prompt) for prompt in self._asked.prompts),
            cached_tokens=sum(choice.generation.cached_tokens for choice in self._firsts()),
            completion_tokens=sum(len(choice.generation.output) for choice in self._choices),
            queue_ms=_ms(stages, "queue_s"),
            prefill_ms=_ms(stages, "prefill_s"),
            transfer_ms=_ms(stages, "transfer_s"),
            first_decode_ms=_ms(stages, "first_decode_s"),
            kv_bytes=stages.kv_bytes,
            transport=stages.transport or "none",
        )

    def _firsts(self) -> Sequence[Choice]:
        """One choice of each prompt: its prompt counts once, however many answers it has."""
        return self._choices[:: self._asked.request.n]

    def _workers(self, choice: Choice) -> dict[str, str]:
        return {
            "x-splitwise-prompt-worker": choice.generation.prompt_worker,
            "x-splitwise-token-worker": choice.generation.token_worker,
        }


def _ms(stages: Stages, name: str) -> float | None:
    """A stage's time in milliseconds; None when the request did not go through it."""
    return round(getattr(stages, name) * 1000, 3) if stages.HasField(name) else None


async def _together(work: Sequence[Coroutine[object, object, None]]) -> None:
    """Runs all; the first that fails cancels the others, and its error is raised."""
    if len(work) == 1:
        await work[0]
        return
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
