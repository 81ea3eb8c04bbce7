"""The token side: leases that this sidecar's worker opened, and the bytes that arrive for them.

Everything here runs on the event loop, and a chunk is written in one piece. So once a lease has
left its writable states no write can land any more: that is the fence.
"""

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import xxhash

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.held import Held
from splitwise_sidecar.lease import MAX_PUSHES, WRITABLE, Event, Lease
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.pool import Pool
from splitwise_sidecar.refusal import Refused, failure, label
from splitwise_sidecar.transports import Loan, wire_id

log = logging.getLogger("splitwise.sidecar.leases")

MAX_RESERVE_WAIT_S: Final = 5.0
LANDING_WAIT_S: Final = 2.0
"""How long a Commit waits for pushes whose streams have not ended here."""

REMEMBERED: Final = 4096
"""Verified transfers whose Commit can be repeated; at 24 bytes an id, 100 kB."""

Send = Callable[[kv_pb2.FromSidecarToWorker], None]


class Leases:
    """The leases of one attachment."""

    def __init__(self, epoch: int, pool: Pool, send: Send, metrics: SidecarMetrics) -> None:
        self._epoch = epoch
        self._pool = pool
        self._send = send
        self._metrics = metrics
        self._held: dict[str, Held] = {}
        self._by_wire: dict[bytes, Held] = {}
        self._awaited: dict[str, asyncio.Future[None]] = {}
        self._lent: dict[Loan, Held] = {}
        self._verified: OrderedDict[str, None] = OrderedDict()
        self._all_fenced: asyncio.Event | None = None

    def __len__(self) -> int:
        return len(self._held)

    # ---- the worker ----

    def open(
        self,
        message: kv_pb2.OpenLease,
        metrics: SidecarMetrics | None = None,
        send: Send | None = None,
    ) -> None:
        """Lets a transfer land. Raises Refused(INVALID) when the worker makes no sense.

        The worker hears of its end and it is counted, unless `send` and `metrics` are others.
        """
        if message.transfer_id in self._held or message.lease_ms < 1:
            detail = f"lease {message.transfer_id} is open already, or has no time"
            raise Refused(kv_pb2.INVALID, detail)
        span = self._pool.span(message.blocks, message.num_tokens)
        lease = Lease(message.transfer_id, self._epoch)
        held = Held(
            lease,
            span,
            message.lease_ms,
            self._expire,
            metrics or self._metrics,
            send or self._send,
        )
        self._held[message.transfer_id] = self._by_wire[wire_id(message.transfer_id)] = held
        if awaited := self._awaited.pop(message.transfer_id, None):
            awaited.set_result(None)

    def close(self, transfer_id: str) -> None:
        """The worker's request is gone. A lease that has just ended was already told of."""
        if held := self._held.get(transfer_id):
            self._end(held, Event.CLOSE, kv_pb2.CANCELLED, "closed by its worker")

    async def end_all(self) -> None:
        """The worker is gone. When this returns nothing touches its memory any more."""
        checks = [held.checking for held in self._held.values() if held.checking]
        for held in list(self._held.values()):
            self._end(held, Event.CLOSE, kv_pb2.PEER_LOST, "the token worker is gone")
        for awaited in self._awaited.values():
            awaited.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        if self._held:
            self._all_fenced = asyncio.Event()
            await self._all_fenced.wait()  # whoever has a loan gives it back within seconds

    # ---- the peer ----

    async def reserve(self, transfer_id: str, num_tokens: int, wait_s: float) -> int:
        """Claims a lease, waiting for the worker to open it; how long it holds, in ms."""
        if transfer_id not in self._held:
            await self._wait_open(transfer_id, min(wait_s, MAX_RESERVE_WAIT_S))
        held = self._find(transfer_id)
        if num_tokens != held.span.num_tokens:
            raise Refused(
                kv_pb2.DENIED, f"{num_tokens} tokens do not fit a lease for {held.span.num_tokens}"
            )
        held.step(Event.RESERVE)
        held.renew()
        return held.lease_ms

    def renew(self, transfer_ids: Iterable[str]) -> list[str]:
        """Lets these leases live on; returns those that have ended."""
        unknown = []
        for transfer_id in transfer_ids:
            if (held := self._held.get(transfer_id)) and not held.is_ending:
                held.renew()
            elif transfer_id not in self._verified:
                unknown.append(transfer_id)
        return unknown

    async def commit(
        self, transfer_id: str, digests: Mapping[int, int], output_tokens: Iterable[int]
    ) -> list[int]:
        """Compares what arrived with what was sent; the damaged layers. Repeating it is safe."""
        if transfer_id in self._verified:
            return []
        held = self._find(transfer_id)
        if digests.keys() != set(range(self._pool.geometry.num_layers)):
            raise Refused(kv_pb2.INVALID, "a commit needs one digest of every layer")
        if held.checking is None:
            held.checking = asyncio.create_task(self._check(held, digests, tuple(output_tokens)))
            held.checking.add_done_callback(_hear)
        # Shielded: a caller that hangs up must not leave the lease half checked.
        return await asyncio.shield(held.checking)

    def abort(self, transfer_id: str, reason: kv_pb2.Outcome) -> None:
        """The peer gives up. When this returns no write of the transfer can land any more."""
        self._end(
            self._find(transfer_id), Event.ABORT, failure(reason), "given up by the prompt worker"
        )

    # ---- bytes (transports.Sink) ----

    def room(
        self, wire_id: bytes, epoch: int, layer: int, offset: int, length: int
    ) -> list[memoryview]:
        """Memory for a chunk, to be filled before anything else runs. Raises Refused."""
        held = self._by_wire.get(wire_id)
        if held is None or epoch != self._epoch or held.lease.state not in WRITABLE:
            self._metrics.late_write()
            is_stale = epoch != self._epoch
            outcome = kv_pb2.STALE_EPOCH if is_stale else kv_pb2.UNKNOWN_TRANSFER
            raise Refused(outcome, "no lease takes this chunk")
        if not held.arrivals.are_next(layer, offset, length):
            held.metrics.ended("received", held.transport, kv_pb2.DENIED)
            fields = {"transfer": held.lease.id, "layer": layer, "offset": offset, "bytes": length}
            log.warning("chunk out of bounds or order", extra={"fields": fields})
            raise Refused(kv_pb2.DENIED, "a chunk out of bounds or order")
        held.step(Event.CHUNK)
        return list(held.span.pieces(layer, offset, length))

    def landed(self, wire_id: bytes, layer: int, offset: int, length: int) -> None:
        """A chunk is there."""
        held = self._by_wire[wire_id]
        held.arrivals.add(layer, offset, length)
        held.metrics.moved("received", held.transport, length)

    def lend(self, wire_id: bytes, epoch: int, layer: int, offset: int, length: int) -> Loan:
        """Memory for part of a layer, until `give_back`. Raises Refused."""
        self.room(wire_id, epoch, layer, offset, length)
        held = self._by_wire[wire_id]
        loan = Loan(held.span, layer, offset, length, xxhash.xxh3_64(), threading.Event())
        held.loans.add(loan)
        self._lent[loan] = held
        return loan

    def give_back(self, loan: Loan, count: int) -> None:
        """The loan is over; `count` bytes of it are there, and in its digest."""
        held = self._lent.pop(loan)
        held.loans.remove(loan)
        if count:
            held.arrivals.add_digested(loan, count)
            held.metrics.moved("received", held.transport, count)
        if held.is_ending and not held.loans:
            self._fenced(held)

    def push_opened(self, wire_id: bytes, transport: str) -> None:
        """Chunks of this transfer are about to arrive."""
        if held := self._by_wire.get(wire_id):
            held.push_opened(transport)

    def push_closed(self, wire_id: bytes) -> None:
        """No more chunks of that push will arrive."""
        if held := self._by_wire.get(wire_id):
            held.push_closed()

    # ---- the rest ----

    def _find(self, transfer_id: str) -> Held:
        held = self._held.get(transfer_id)
        if held is None or held.is_ending:
            raise Refused(kv_pb2.UNKNOWN_TRANSFER, f"no lease {transfer_id!r} is open")
        return held

    async def _wait_open(self, transfer_id: str, wait_s: float) -> None:
        opened = self._awaited.get(transfer_id)
        if opened is None:
            opened = self._awaited[transfer_id] = asyncio.get_running_loop().create_future()
        await asyncio.wait([opened], timeout=wait_s)
        if not opened.done() and self._awaited.get(transfer_id) is opened:
            del self._awaited[transfer_id]  # whoever else waits for it looks again, and gives up

    async def _check(
        self, held: Held, digests: Mapping[int, int], output_tokens: tuple[int, ...]
    ) -> list[int]:
        try:
            if not await held.landed(LANDING_WAIT_S):
                raise Refused(kv_pb2.TRANSPORT_FAILED, "bytes of the transfer are still under way")
            if held.outcome:
                raise Refused(held.outcome, held.detail)
            held.step(Event.COMMIT)
        finally:
            held.checking = None
        bad = held.arrivals.damaged(digests)
        if bad:
            self._damage(held, bad)
        else:
            self._verify(held, output_tokens)
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

    def _verify(self, held: Held, output_tokens: tuple[int, ...]) -> None:
        held.step(Event.MATCH)
        self._forget(held, kv_pb2.OK)
        self._verified[held.lease.id] = None
        if len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)
        verified = kv_pb2.LeaseVerified(
            transfer_id=held.lease.id,
            output_tokens=output_tokens,
            kv_bytes=held.span.total_bytes,
            transport=held.transport,
        )
        held.send(kv_pb2.FromSidecarToWorker(lease_verified=verified))

    def _expire(self, held: Held) -> None:
        self._end(held, Event.EXPIRE, kv_pb2.EXPIRED, f"not renewed for {held.lease_ms} ms")

    def _end(self, held: Held, event: Event, outcome: kv_pb2.Outcome, detail: str) -> None:
        if held.is_ending:
            return
        held.step(event)
        held.outcome, held.detail = outcome, detail
        held.recall()
        if not held.loans:
            self._fenced(held)

    def _fenced(self, held: Held) -> None:
        """No write can land any more: the blocks are the worker's."""
        outcome, detail = held.outcome, held.detail
        held.step(Event.FENCED)
        self._forget(held, outcome)
        fields = {"transfer": held.lease.id, "outcome": label(outcome), "detail": detail}
        log.info("lease ended", extra={"fields": fields})
        ended = kv_pb2.LeaseEnded(transfer_id=held.lease.id, outcome=outcome, detail=detail)
        held.send(kv_pb2.FromSidecarToWorker(lease_ended=ended))

    def _forget(self, held: Held, outcome: kv_pb2.Outcome) -> None:
        held.release()
        del self._held[held.lease.id]
        del self._by_wire[wire_id(held.lease.id)]
        held.metrics.ended("received", held.transport, outcome)
        if not self._held and self._all_fenced is not None:
            self._all_fenced.set()


def _hear(checked: asyncio.Task[list[int]]) -> None:
    """Takes note of a refusal that no caller has waited for."""
    if not checked.cancelled():
        checked.exception()
