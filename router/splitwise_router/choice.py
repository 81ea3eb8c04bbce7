"""One choice of an answer: tokens in, text out, cut at stop strings, timed."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from splitwise_core.metrics.router import (
    E2E,
    KV_BYTES,
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    ROLE_CHANGE,
    STAGE_FIRST_DECODE,
    STAGE_PREFILL,
    STAGE_QUEUE,
    STAGE_TRANSFER,
    TBT,
    TTFT,
)
from splitwise_core.rpc.worker_pb2 import TokenLogprobs
from splitwise_core.telemetry import Telemetry
from splitwise_router.attempt import Piece
from splitwise_router.dispatch import Dispatcher
from splitwise_router.generation import Generation
from splitwise_router.goodput import Goodput
from splitwise_router.request_log import RequestLog
from splitwise_router.request_trace import GenerationTrace
from splitwise_router.text.stream import TextStream


@dataclass(slots=True)
class Delta:
    """What one step added: text that may be sent, and the tokens it was computed from."""

    text: str
    tokens: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish: str | None = None


class Clock:
    """The times of requests, as clients see them, on their way into the metrics and the log."""

    def __init__(self, telemetry: Telemetry, goodput: Goodput, request_log: RequestLog) -> None:
        self.over = request_log.ended
        self._telemetry = telemetry
        self._goodput = goodput
        self._ttft = telemetry.histogram(TTFT)
        self._tbt = telemetry.histogram(TBT)
        self._e2e = telemetry.histogram(E2E)
        self._prompt_tokens = self._output_tokens = 0
        telemetry.show_total(PROMPT_TOKENS, lambda: self._prompt_tokens)
        telemetry.show_total(OUTPUT_TOKENS, lambda: self._output_tokens)
        self._queue = telemetry.histogram(STAGE_QUEUE)
        self._prefill = telemetry.histogram(STAGE_PREFILL)
        self._transfer = telemetry.histogram(STAGE_TRANSFER)
        self._first_decode = telemetry.histogram(STAGE_FIRST_DECODE)
        self._role_change = telemetry.histogram(ROLE_CHANGE)

    def asked(self, prompt_tokens: int) -> None:
        """Counts a prompt that was read and found good."""
        self._prompt_tokens += prompt_tokens

    def tokens(
        self,
        count: int,
        arrived_s: float,
        before_s: float | None,
        now_s: float,
        trace: GenerationTrace,
    ) -> None:
        """Counts tokens that came together; `before_s` is None for the first ones."""
        self._output_tokens += count
        if before_s is None:
            self._ttft.observe(now_s - arrived_s, trace.exemplar)
            trace.first_token(now_s)
        elif count:
            self._tbt.observe((now_s - before_s) / count, trace.exemplar)

    def ended(
        self,
        generation: Generation,
        arrived_s: float,
        first_s: float,
        last_s: float,
        now_s: float,
    ) -> None:
        """Counts a request that has ended well, with the stages it went through.

        Its first token came at `first_s`, its last one at `last_s`.
        """
        self._e2e.observe(now_s - arrived_s, generation.trace.exemplar)
        gaps = max(1, len(generation.output) - 1)
        self._goodput.answered(first_s - arrived_s, (last_s - first_s) / gaps)
        stages = generation.stages
        if stages.HasField("queue_s"):
            self._queue.observe(stages.queue_s)
        if stages.HasField("prefill_s"):
            self._prefill.observe(stages.prefill_s)
        if stages.HasField("transfer_s"):
            self._transfer.observe(stages.transfer_s)
        if stages.HasField("first_decode_s"):
            self._first_decode.observe(stages.first_decode_s)
        if stages.kv_bytes:
            self._telemetry.counter(KV_BYTES, transport=stages.transport).inc(stages.kv_bytes)
        if generation.role_change_s is not None:
            self._role_change.observe(generation.role_change_s)


async def deltas(
    generation: Generation, text: TextStream, dispatcher: Dispatcher, clock: Clock, arrived_s: float
) -> AsyncGenerator[Delta, None]:
    """The choice as it grows; the last delta says why it ended. Raises ApiError.

    A stop string ends the choice here, and what runs on the workers with it. The token that ended
    it there (end of sequence, or a stop token) is counted but is no part of the text.
    """
    before_s = first_s = None
    outcome = "broken"
    try:
        async with aclosing(dispatcher.run(generation)) as pieces:
            async for piece in pieces:
                now_s = time.monotonic()
                clock.tokens(len(piece.tokens), arrived_s, before_s, now_s, generation.trace)
                if piece.tokens or before_s is None:
                    before_s = now_s
                first_s = now_s if first_s is None else first_s
                delta = _delta(piece, text)
                if delta.finish is not None:
                    outcome = delta.finish
                    clock.ended(generation, arrived_s, first_s, before_s, now_s)
                yield delta
                if delta.finish is not None:
                    return
    finally:
        clock.over(generation, arrived_s, first_s, outcome)


def _delta(piece: Piece, text: TextStream) -> Delta:
    """What the client gets of a piece."""
    tokens = piece.tokens[:-1] if piece.finish == "stop" else piece.tokens
    delta = Delta(text.push(tokens), tokens, piece.logprobs[: len(tokens)], piece.finish)
    if text.stopped:
        delta.finish = "stop"
    elif piece.finish is not None:
        delta.text += text.finish()
    return delta
