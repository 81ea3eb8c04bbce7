"""The token side: leases that this sidecar's worker opened, and what peers may do with them.

Memory is lent to transports, which may write it from threads, and comes back when no write of
theirs can land any more. A lease that ends takes no further bytes; it is over, and its blocks the
worker's, once everything that was lent is back: that is the fence.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from splitwise_core.capability import NotAllowed, Refusal
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.arrivals import Sent
from splitwise_sidecar.held import Held
from splitwise_sidecar.incoming import Incoming
from splitwise_sidecar.lease import MAX_PUSHES, Event, Lease, State
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.past import Over, Past
from splitwise_sidecar.pool import Pool
from splitwise_sidecar.refusal import Refused, failure, label
from splitwise_sidecar.rights import Allowed, check_holder

log = logging.getLogger("splitwise.sidecar.leases")

MAX_RESERVE_WAIT_S: Final = 5.0
LANDING_STALL_S: Final = 2.0
"""For how long nothing may arrive of the streams whose end a Commit waits for."""

FENCE_WAIT_S: Final = 1.5
"""How long an Abort waits for the fence: below a call's deadline. A writer is asked to hurry, and
needs milliseconds."""

MAX_ID_CHARACTERS: Final = 256
MAX_AWAITED: Final = 4096
"""Reservations that wait for their lease; more are not of routers that know what workers take."""

Send = Callable[[kv_pb2.FromSidecarToWorker], None]


class Leases:
    """The leases of one attachment."""

    def __init__(self, epoch: int, pool: Pool, send: Send, metrics: SidecarMetrics) -> None:
        self._epoch = epoch
        self._pool = pool
        self._send = send
        self._metrics = metrics
        self._held: dict[str, Held] = {}
        self.incoming = Incoming(epoch, metrics, self._fenced)
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._past = Past()
        self._clock = asyncio.get_running_loop().time

    def __len__(self) -> int:
        return len(self._held)

    def oldest_age_s(self) -> float:
        """For how long the oldest of them has been open; 0 without one. For any thread."""
        opened_s = [held.opened_s for held in list(self._held.values())]
        return self._clock() - min(opened_s) if opened_s else 0.0

    # ---- the worker ----

    def open(
        self,
        message: kv_pb2.OpenLease,
        metrics: SidecarMetrics | None = None,
        send: Send | None = None,
        pool: Pool | None = None,
    ) -> None:
        """Lets a transfer land. Raises Refused(INVALID) when the worker makes no sense.

        The worker hears of its end and it is counted, unless `send` and `metrics` are others. It
        lands in the worker's blocks, unless `pool` is another of as many layers.
        """
        if message.transfer_id in self._held or message.lease_ms < 1:
            detail = f"lease {message.transfer_id} is open already, or has no time"
            raise Refused(kv_pb2.INVALID, detail)
        span = (pool or self._pool).rest(message.blocks, message.num_tokens, message.held_tokens)
        lease = Lease(message.transfer_id, self._epoch)
        held = Held(
            lease,
            span,
            message,
            self._expire,
            metrics or self._metrics,
            send or self._send,
        )
        self._held[message.transfer_id] = held
        self.incoming.add(held)
        if awaited := self._awaited.pop(message.transfer_id, None):
            awaited.set_result(None)

    def close(self, transfer_id: str) -> None:
        """The worker's request is gone. A lease that has just ended was already told of."""
        if held := self._live(transfer_id):
            self._end(held, Event.CLOSE, kv_pb2.CANCELLED, "closed by its worker")

    async def end_all(self) -> None:
        """The worker is gone. When this returns nothing touches its memory any more."""
        held_now = list(self._held.values())
        checks = [held.checking for held in held_now if held.checking]
        for held in held_now:
            if held.lease.state is not State.FENCING:
                self._end(held, Event.CLOSE, kv_pb2.PEER_LOST, "the token worker is gone")
        for awaited in self._awaited.values():
            awaited.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        for held in held_now:
            await held.over.wait()

    # ---- the peer ----

    async def reserve(
        self, transfer_id: str, num_tokens: int, allowed: Allowed, wait_s: float
    ) -> tuple[int, int]:
        """Claims a lease, waiting for the worker to open it.

        How long it holds, in ms, and how many of the first tokens are here already and must not be
        sent. Raises Refused, and NotAllowed when it is another's, or not what was allowed.
        """
        if transfer_id not in self._held:
            self._past.check_not_over(transfer_id, allowed.write_token)
            if len(self._awaited) == MAX_AWAITED or len(transfer_id) > MAX_ID_CHARACTERS:
                raise Refused(kv_pb2.DENIED, "no wait for this lease: too many, or no such id")
            await self._wait_open(transfer_id, min(wait_s, MAX_RESERVE_WAIT_S))
        held = self._find(transfer_id)
        tokens = held.num_tokens
        allowed.check_lease(held.request_id, tokens)
        if num_tokens != tokens:
            detail = f"{num_tokens} tokens do not fit a lease for {tokens}"
            raise NotAllowed(Refusal.OTHER_SIZE, detail)
        if held.holder:  # the first answer may have been lost
            check_holder(held.holder, allowed.write_token)
        held.step(Event.RESERVE)
        held.holder = allowed.write_token
        held.renew()
        return held.lease_ms, held.held_tokens

    def renew(self, transfer_id: str, write_token: bytes) -> None:
        """Lets a lease live on. Raises Refused when it has ended, NotAllowed when it is another's.

        One that was verified has no time to run out of.
        """
        if transfer_id not in self._held and self._past.is_verified(transfer_id):
            return
        held = self._find(transfer_id)
        check_holder(held.holder, write_token)
        held.renew()

    async def commit(self, transfer_id: str, sent: Sent, write_token: bytes) -> list[int]:
        """Compares what arrived with what was sent; the damaged layers. Repeating it is safe.

        It may come before the end of the streams that it is about: those are waited for.
        """
        over = self._past.find(transfer_id)
        if transfer_id not in self._held and over is not None and over.is_verified:
            check_holder(over.holder, write_token)
            return []
        held = self._find(transfer_id)
        check_holder(held.holder, write_token)
        if sent.digests.keys() != set(range(self._pool.geometry.num_layers)):
            raise Refused(kv_pb2.INVALID, "a commit needs one digest of every layer")
        if held.checking is None:
            held.checking = asyncio.create_task(self._check(held, sent))
            held.checking.add_done_callback(_hear)
        # Shielded: a caller that hangs up must not leave the lease half checked.
        return await asyncio.shield(held.checking)

    async def abort(
        self,
        transfer_id: str,
        reason: kv_pb2.Outcome,
        write_token: bytes,
        check: Callable[[], Allowed],
    ) -> bool:
        """The peer gives up; whether no write of the transfer can land any more.

        A lease that nobody has claimed yet is given up by who may claim it, as `check()` says.
        """
        held = self._held.get(transfer_id)
        if held is None:
            raise Refused(kv_pb2.UNKNOWN_TRANSFER, f"no lease {transfer_id!r} is open")
        if held.holder:
            check_holder(held.holder, write_token)
        else:
            check().check_lease(held.request_id, held.num_tokens)
        if held.lease.state is not State.FENCING:
            self._end(held, Event.ABORT, failure(reason), "given up by the prompt worker")
        with suppress(TimeoutError):
            async with asyncio.timeout(FENCE_WAIT_S):
                await held.over.wait()
        return held.over.is_set()

    # ---- the rest ----

    def _live(self, transfer_id: str) -> Held | None:
        """The lease, unless it has ended and only waits for its fence."""
        held = self._held.get(transfer_id)
        return held if held and held.lease.state is not State.FENCING else None

    def _find(self, transfer_id: str) -> Held:
        held = self._live(transfer_id)
        if held is None:
            raise Refused(kv_pb2.UNKNOWN_TRANSFER, f"no lease {transfer_id!r} is open")
        return held

    async def _wait_open(self, transfer_id: str, wait_s: float) -> None:
        opened = self._awaited.get(transfer_id)
        if opened is None:
            opened = self._awaited[transfer_id] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait([opened], timeout=wait_s)
        finally:  # the caller may have hung up meanwhile
            if not opened.done() and self._awaited.get(transfer_id) is opened:
                del self._awaited[transfer_id]  # whoever else waits for it looks again in the end

    async def _check(self, held: Held, sent: Sent) -> list[int]:
        done_s = self._clock() - sent.waited_s  # the prompt
        try:
            if not await held.landed(sent.streams, LANDING_STALL_S) or held.arrivals.in_use:
                raise Refused(kv_pb2.TRANSPORT_FAILED, "bytes of the transfer are still under way")
            if held.outcome:
                raise Refused(held.outcome, held.detail)
            held.step(Event.COMMIT)
        finally:
            held.checking = None
        bad = held.arrivals.damaged(sent.digests)
        if bad:
            self._damage(held, bad)
        else:
            self._verify(held, sent.output_tokens, self._clock() - done_s)
        return bad

    def _damage(self, held: Held, bad: list[int]) -> None:
        held.metrics.damaged(len(bad))
        fields = {"transfer": held.lease.id, "layers": len(bad), "pushes": held.lease.pushes}
        log.warning("bytes arrived damaged", extra={"fields": fields})
        if held.lease.pushes < MAX_PUSHES:
            held.step(Event.DAMAGE)
        else:
            detail = f"{len(bad)} layers arrived damaged, {MAX_PUSHES} times"
            self._end(held, Event.RUIN, kv_pb2.DIGEST_MISMATCH, detail)

    def _verify(self, held: Held, output_tokens: tuple[int, ...], visible_s: float) -> None:
        held.step(Event.MATCH)
        self._forget(held, kv_pb2.OK)
        verified = kv_pb2.LeaseVerified(
            transfer_id=held.lease.id,
            output_tokens=output_tokens,
            kv_bytes=held.span.total_bytes,
            transport=held.transport,
            visible_s=visible_s,
        )
        held.send(kv_pb2.FromSidecarToWorker(lease_verified=verified))

    def _expire(self, held: Held) -> None:
        self._end(held, Event.EXPIRE, kv_pb2.EXPIRED, f"not renewed for {held.lease_ms} ms")

    def _end(self, held: Held, event: Event, outcome: kv_pb2.Outcome, detail: str) -> None:
        """From here on nothing more is lent; what is lent now is waited for."""
        held.step(event)
        held.stop_timer()
        held.outcome, held.detail = outcome, detail
        if held.arrivals.in_use:
            held.arrivals.stop()
        else:
            self._fenced(held)

    def _fenced(self, held: Held) -> None:
        """The blocks are the worker's again."""
        held.step(Event.FENCED)
        self._forget(held, held.outcome)
        fields = {"transfer": held.lease.id, "outcome": label(held.outcome), "detail": held.detail}
        log.info("lease ended", extra={"fields": fields | held.traced.fields})
        ended = kv_pb2.LeaseEnded(
            transfer_id=held.lease.id, outcome=held.outcome, detail=held.detail
        )
        held.send(kv_pb2.FromSidecarToWorker(lease_ended=ended))

    def _forget(self, held: Held, outcome: kv_pb2.Outcome) -> None:
        held.release()
        del self._held[held.lease.id]
        self.incoming.remove(held)
        self._past.add(held.lease.id, Over(held.holder, outcome == kv_pb2.OK))
        held.ended(outcome)


def _hear(checked: asyncio.Task[list[int]]) -> None:
    """Takes note of a refusal that no caller has waited for."""
    if not checked.cancelled():
        checked.exception()
