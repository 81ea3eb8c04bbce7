"""Which requests are traced, decided before they come.

A sampler takes 2 us, and 50 where its code and what it reads have left the processor's caches
meanwhile, as between the requests of a router that is not busy (`python -m bench.watching.calls`).
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from splitwise_core.tracing.context import SpanContext

Sample = Callable[[tuple[SpanContext, bool] | None], SpanContext | None]
"""From the caller's context, if it has one, to that of a new span; None: it is not traced."""

MOST_READY: Final = 64
"""Decisions that lie ready: for so many requests that come at once."""


class Ahead:
    """A sampler's decisions on requests that bring no context: each is like the others until then.

    For one thread.
    """

    def __init__(self, sample: Sample) -> None:
        self._sample = sample
        self._ready = deque[SpanContext | None]()

    def sample(self, caller: tuple[SpanContext, bool] | None) -> SpanContext | None:
        """What the sampler decides; on one without a context, what it has decided before."""
        if caller is None and self._ready:
            return self._ready.popleft()
        return self._sample(caller)

    def decide(self) -> None:
        """Has one decision more ready, unless there are enough: when nobody waits for it."""
        if len(self._ready) < MOST_READY:
            self._ready.append(self._sample(None))
