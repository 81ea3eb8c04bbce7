"""One lease as the sidecar holds it: its state, its memory, its timer, and what is under way."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.arrivals import Arrivals
from splitwise_sidecar.lease import Event, Lease, step
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.pool import Span
from splitwise_sidecar.spans import Traced
from splitwise_sidecar.transports import NONE


class Held:
    """A lease between `open` and its end. `expire` is called when nobody renewed it in time.

    `send` hears of its end, `metrics` count it.
    """

    def __init__(
        self,
        lease: Lease,
        span: Span,
        message: kv_pb2.OpenLease,
        expire: Callable[["Held"], None],
        metrics: SidecarMetrics,
        send: Callable[[kv_pb2.FromSidecarToWorker], None],
    ) -> None:
        self.lease = lease
        self.span = span
        # Before those of the span, and not part of the transfer.
        self.held_tokens = message.held_tokens
        self.arrivals = Arrivals(span)
        self.lease_ms = message.lease_ms
        self.traced = Traced(message.request_id, message.traceparent)
        self.holder = b""  # the write token of who has claimed it
        self.metrics = metrics
        self.send = send
        self.transport = NONE
        self._clock = asyncio.get_running_loop().time
        self.opened_s = self._clock()
        self._checked_s = 0.0
        self.checking: asyncio.Task[list[int]] | None = None
        self.outcome: kv_pb2.Outcome = kv_pb2.OUTCOME_UNSPECIFIED  # once it has ended
        self.detail = ""
        self._expire = expire
        self.over = asyncio.Event()  # nothing of it can land any more
        self._streams_open = 0
        self._streams_over = 0
        self._news = asyncio.Event()  # of a push that is over, or of the lease that is
        self._timer = self._new_timer()
        metrics.lease_moved(None, lease.state)

    @property
    def request_id(self) -> str:
        """The request that the lease is for."""
        return self.traced.request_id

    @property
    def num_tokens(self) -> int:
        """Tokens of the request, those that are held counted in."""
        return self.held_tokens + self.span.num_tokens

    def step(self, event: Event) -> None:
        """Moves the lease. Raises ProtocolViolation and leaves it when that cannot be."""
        before = self.lease.state
        self.lease = step(self.lease, event, self.lease.epoch)
        if event is Event.COMMIT:
            self._checked_s = self._clock()
        if self.lease.state is not before:
            self.metrics.lease_moved(before, self.lease.state)

    def renew(self) -> None:
        """Gives the lease its whole time again."""
        self._timer.cancel()
        self._timer = self._new_timer()

    def stop_timer(self) -> None:
        """The lease has ended: no time can run out any more."""
        self._timer.cancel()

    def release(self) -> None:
        """The lease is over: its state is no longer counted, and nobody waits for its bytes."""
        self.stop_timer()
        self.over.set()
        self._news.set()
        self.metrics.lease_moved(self.lease.state, None)

    def ended(self, outcome: kv_pb2.Outcome) -> None:
        """Counts its end, and says it to the request's trace."""
        self.metrics.ended("received", self.transport, outcome)
        now_s = self._clock()
        self.metrics.spans.ended(
            self.traced,
            ("kv.receive", self.opened_s, now_s),
            [("kv.verify", self._checked_s, now_s)],
            outcome,
            {"transport": self.transport, "kv_bytes": self.span.total_bytes},
        )

    def push_opened(self, transport: str) -> None:
        """A stream of chunks has begun."""
        self.transport = transport
        self._streams_open += 1

    def push_closed(self) -> None:
        """A stream of chunks has ended."""
        self._streams_open -= 1
        self._streams_over += 1
        self._news.set()

    async def landed(self, streams: int, stall_s: float) -> bool:
        """Waits until so many streams of chunks, and all that have begun, have ended; or the lease.

        False when nothing at all arrived for `stall_s`.
        """
        while not self._has_landed(streams):
            before = self.arrivals.num_bytes
            self._news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(stall_s):
                    await self._news.wait()
            if not self._news.is_set() and self.arrivals.num_bytes == before:
                return False
        return True

    def _has_landed(self, streams: int) -> bool:
        is_quiet = self._streams_open == 0 and self._streams_over >= streams
        return is_quiet or self.over.is_set()

    def _new_timer(self) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(self.lease_ms / 1e3, self._expire, self)
