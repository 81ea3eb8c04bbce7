"""Spans that have ended, on their way out of the threads that serve requests."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Event
from typing import Final

from splitwise_core.tracing.context import SpanContext

Attribute = str | int | float


@dataclass(frozen=True, slots=True)
class Span:
    """Something that took its time, in seconds of this host's monotonic clock."""

    name: str
    context: SpanContext
    parent_id: int  # 0: it has none
    began_s: float
    ended_s: float
    attributes: Mapping[str, Attribute]
    error: str = ""  # what went wrong
    answers: bool = False  # a request from outside


def _nobody() -> None:
    """There is no queue to be full."""


class Recorder:
    """A bounded queue of ended spans. Where it is off, `add` is never called: see `is_on`."""

    def __init__(
        self, most: int = 0, batch: int = 1, dropped: Callable[[], None] = _nobody
    ) -> None:
        """Holds `most` spans; `dropped()` is called for each that finds no room.

        `wanted` is set once `batch` of them wait.
        """
        self._most = most
        self._batch = batch
        self._dropped = dropped
        self._spans: deque[Span] = deque()
        self.wanted = Event()

    @property
    def is_on(self) -> bool:
        """Whether anybody wants spans."""
        return self._most > 0

    def add(self, span: Span) -> None:
        """Takes a span, or counts that there was no room. For any thread; waits for nothing."""
        waiting = len(self._spans)
        if waiting >= self._most:
            self._dropped()
            return
        self._spans.append(span)
        if waiting + 1 == self._batch:
            self.wanted.set()

    def take(self) -> list[Span]:
        """The oldest spans, a batch at most. For one thread."""
        return [self._spans.popleft() for _ in range(min(self._batch, len(self._spans)))]


OFF: Final = Recorder()
"""Of a process that nobody asked for traces."""
