"""A request's trace as its router knows it: where each stage begins and ends, over all attempts.

Until the first token the stages follow each other without a gap, so that they sum to the TTFT:
`read` and `admission` here, `dispatch` to the prompt worker, `queue` and `prefill` there (its own
spans), `first_token` back here. A failed attempt stands in the place of those behind `admission`.
"""

import time
from collections.abc import Callable, Mapping
from typing import Final

from splitwise_core.rpc.worker_pb2 import Stages
from splitwise_core.tracing import (
    OFF,
    Attribute,
    Recorder,
    Span,
    SpanContext,
    Tracing,
    parse_traceparent,
    unix_offset_s,
)


class RequestTrace:
    """One HTTP request that is traced, or not: then nothing of it does anything."""

    def __init__(
        self, recorder: Recorder = OFF, root: SpanContext | None = None, caller_id: int = 0
    ) -> None:
        self._recorder = recorder
        self.root = root
        self._caller_id = caller_id  # the client's span

    @property
    def fields(self) -> dict[str, object]:
        """What a log line says of it."""
        return {"trace_id": self.root.trace_hex} if self.root else {}

    def add(
        self,
        name: str,
        began_s: float,
        ended_s: float,
        above: SpanContext | None,
        own: SpanContext | None = None,
        error: str = "",
        **attributes: Attribute,
    ) -> None:
        """Records a span under `above`."""
        if above is not None:
            said = {f"splitwise.{key}": value for key, value in attributes.items()}
            context = own or above.child()
            self._recorder.add(Span(name, context, above.span_id, began_s, ended_s, said, error))

    def ended(
        self,
        name: str,
        began_s: float,
        ended_s: float,
        error: str,
        attributes: Mapping[str, Attribute],
    ) -> None:
        """Records the request's own span, which all others are under."""
        if self.root is not None:
            self._recorder.add(
                Span(name, self.root, self._caller_id, began_s, ended_s, attributes, error, True)
            )


UNTRACED: Final = RequestTrace()


def begin(tracing: Tracing, traceparent: str | None) -> RequestTrace:
    """The trace of a request that has just come with this header."""
    if not tracing.recorder.is_on:
        return UNTRACED
    caller = parse_traceparent(traceparent or "")
    root = tracing.sample(caller)
    if root is None:
        return UNTRACED
    return RequestTrace(tracing.recorder, root, caller[0].span_id if caller else 0)


class GenerationTrace:
    """The stages of one choice. Each method is told of an event, in the order of events."""

    def __init__(
        self,
        request: RequestTrace,
        arrived_s: float,
        choice: int,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._request = request
        self._choice = choice
        self._clock = clock
        self._unix_clock = unix_clock
        self._arrived_s = self._since_s = arrived_s
        self._began_s = 0.0  # the present attempt
        self._attempt: SpanContext | None = None
        self._workers: dict[str, Attribute] = {}
        self._computed_s: float | None = None  # the first token, on its worker
        self._first_token_s: float | None = None
        root = request.root
        self.exemplar = {"trace_id": root.trace_hex} if root else None
        """What a histogram's bucket says of it; None where nobody could look it up."""

    @property
    def fields(self) -> dict[str, object]:
        """What a log line says of it."""
        return self._request.fields

    @property
    def traceparent(self) -> str:
        """What workers are told; empty where they need record nothing."""
        return self._attempt.traceparent if self._attempt else ""

    def asks(self) -> None:
        """The request was read, or an attempt has failed: a placement is asked for."""
        if self._request.root is not None:
            now_s = self._clock()
            if self._attempt is None:
                self._stage("read", now_s)
            self._since_s = now_s

    def placed(self, prompt_worker: str, token_worker: str) -> None:
        """Workers were found, and are about to be told."""
        root = self._request.root
        if root is not None:
            self._began_s = self._clock()
            self._stage("admission", self._began_s)
            self._attempt, self._since_s = root.child(), self._began_s
            self._workers = {"prompt_worker": prompt_worker, "token_worker": token_worker}

    def _stage(self, name: str, now_s: float) -> None:
        self._request.add(name, self._since_s, now_s, self._request.root, choice=self._choice)

    def prefilled(self, stages: Stages) -> None:
        """The prompt worker has told of its stages, with the first token of its attempt.

        `dispatch` and `first_token` are what is left beside the times that the worker measured. How
        the rest divides is for its clock to say, if that can be: clocks of two hosts may differ.
        """
        if self._attempt is None or not stages.HasField("arrived_unix_s"):
            return
        now_s, worked_s = self._clock(), stages.queue_s + stages.prefill_s
        told_s = stages.arrived_unix_s - unix_offset_s(self._clock, self._unix_clock)
        arrived_s = max(self._began_s, min(told_s, now_s - worked_s))
        self._request.add("dispatch", self._began_s, arrived_s, self._attempt)
        self._computed_s = arrived_s + worked_s

    def first_token(self, now_s: float) -> None:
        """The client gets its first token."""
        if self._attempt is not None:
            self._first_token_s = now_s
            if self._computed_s is not None:
                ttft_s = now_s - self._arrived_s
                self._request.add(
                    "first_token", self._computed_s, now_s, self._attempt, ttft_seconds=ttft_s
                )

    def moved(self, began_s: float, result: str, to: str) -> None:
        """Its stream has moved to a peer, or has not."""
        if self._attempt is not None:
            error = result if result == "failed" else ""
            self._request.add(
                "move", began_s, self._clock(), self._attempt, error=error, result=result, to=to
            )

    def attempt_ended(self, error: str, output_tokens: int) -> None:
        """The attempt has ended, well or not."""
        root, attempt = self._request.root, self._attempt
        if root is None or attempt is None:
            return
        now_s = self._clock()
        if self._first_token_s is not None:
            since_s = max(self._first_token_s, self._began_s)
            self._request.add("stream", since_s, now_s, attempt, output_tokens=output_tokens)
        self._request.add(
            "attempt",
            self._began_s,
            now_s,
            root,
            attempt,
            error,
            choice=self._choice,
            **self._workers,
        )
        self._computed_s = None


def untraced() -> GenerationTrace:
    """Of a request that nobody traces."""
    return GenerationTrace(UNTRACED, 0.0, 0)
