"""What a worker says to a request's trace: a span a stage, all of them under its router's attempt.

The stages of a sequence follow each other without a gap: what one ends with begins the next.
"""

import time
from collections.abc import Callable

from splitwise_core.rpc import kv_pb2
from splitwise_core.tracing import (
    OFF,
    Recorder,
    Span,
    SpanContext,
    parse_traceparent,
    unix_offset_s,
)
from splitwise_worker.sequence import LiveSequence, Phase, SequenceTrace

_WELL = (kv_pb2.OK, kv_pb2.CANCELLED)


class EngineSpans:
    """Records spans of traced sequences; of others nothing, which costs next to nothing."""

    def __init__(
        self,
        recorder: Recorder = OFF,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` is the engine's."""
        self._recorder = recorder
        self._clock = clock
        self._unix_clock = unix_clock

    def admitted(self, sequence: LiveSequence, traceparent: str) -> None:
        """Remembers the trace that the router names, if it does."""
        if self._recorder.is_on and (found := parse_traceparent(traceparent)):
            attempt, _ = found
            sequence.trace = SequenceTrace(attempt, attempt.child(), sequence.arrived_s)

    def prefilled(self, sequence: LiveSequence, now_s: float) -> float | None:
        """Its first token is there. When it had arrived, in seconds since 1970, if it is traced."""
        trace = sequence.trace
        if trace is None:
            return None
        started_s = sequence.prefill_started_s
        self._record(sequence, "queue", trace.since_s, started_s)
        self._record(
            sequence,
            "prefill",
            started_s,
            now_s,
            tokens=sequence.num_tokens - 1,
            cached_tokens=sequence.cached_tokens,
        )
        trace.since_s = now_s
        return sequence.arrived_s + unix_offset_s(self._clock, self._unix_clock)

    def verified(self, sequence: LiveSequence) -> None:
        """All of its KV has arrived."""
        if trace := sequence.trace:
            now_s = self._clock()
            self._record(sequence, "await_kv", trace.since_s, now_s, trace.transfer)
            trace.since_s = now_s

    def first_decoded(self, sequence: LiveSequence, now_s: float) -> None:
        """It has its first token of those that are decoded here."""
        if trace := sequence.trace:
            self._record(sequence, "first_decode", trace.since_s, now_s)
            trace.since_s = now_s

    def moving(self, sequence: LiveSequence) -> None:
        """Its KV begins to move to a peer, while it decodes."""
        if trace := sequence.trace:
            trace.transfer, trace.moving_since_s = trace.attempt.child(), self._clock()

    def stays(self, sequence: LiveSequence, outcome: kv_pb2.Outcome) -> None:
        """The move came to nothing."""
        if trace := sequence.trace:
            since_s = trace.moving_since_s
            self._record(sequence, "move", since_s, self._clock(), trace.transfer, outcome=outcome)

    def left(self, sequence: LiveSequence, outcome: kv_pb2.Outcome) -> None:
        """It leaves, in whatever stage it is."""
        trace = sequence.trace
        if trace is None:
            return
        now_s, tokens = self._clock(), len(sequence.output_tokens)
        if sequence.moving_tokens:
            since_s = trace.moving_since_s
            self._record(sequence, "move", since_s, now_s, trace.transfer, outcome=outcome)
        stage, context = _STAGES[sequence.phase], None
        if sequence.phase in (Phase.SENDING, Phase.ARRIVING):
            context = trace.transfer
        if sequence.moving_tokens:
            stage, context = "decode", None
        self._record(
            sequence, stage, trace.since_s, now_s, context, outcome=outcome, output_tokens=tokens
        )

    def _record(
        self,
        sequence: LiveSequence,
        name: str,
        began_s: float,
        ended_s: float,
        context: SpanContext | None = None,
        outcome: kv_pb2.Outcome = kv_pb2.OK,
        **attributes: int,
    ) -> None:
        assert sequence.trace is not None
        attempt = sequence.trace.attempt
        label = kv_pb2.Outcome.Name(outcome).lower()
        self._recorder.add(
            Span(
                name,
                context or attempt.child(),
                attempt.span_id,
                began_s,
                ended_s,
                {
                    "splitwise.request_id": sequence.request_id,
                    "splitwise.outcome": label,
                    **{f"splitwise.{key}": value for key, value in attributes.items()},
                },
                error="" if outcome in _WELL else label,
            )
        )


_STAGES = {
    Phase.WAITING: "queue",
    Phase.SENDING: "transfer",
    Phase.ARRIVING: "await_kv",
    Phase.RUNNING: "decode",
}
