"""Where a transport's bytes go: memory of leases that may be written, lent and taken back."""

import logging
from collections.abc import Callable
from functools import partial

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.held import Held
from splitwise_sidecar.lease import WRITABLE, Event, State
from splitwise_sidecar.metrics import SidecarMetrics
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import Loan, wire_id

log = logging.getLogger("splitwise.sidecar.incoming")


class Incoming:
    """The `Sink` of one attachment. `fenced` hears of an ended lease once nothing of it is lent."""

    def __init__(self, epoch: int, metrics: SidecarMetrics, fenced: Callable[[Held], None]) -> None:
        self._epoch = epoch
        self._metrics = metrics
        self._fenced = fenced
        self._by_wire: dict[bytes, Held] = {}

    def add(self, held: Held) -> None:
        """Bytes may come for this lease, as far as its state allows."""
        self._by_wire[wire_id(held.lease.id)] = held

    def remove(self, held: Held) -> None:
        """The lease is over."""
        del self._by_wire[wire_id(held.lease.id)]

    def lend(self, wire_id: bytes, epoch: int, layer: int, offset: int, length: int) -> Loan:
        """Memory for a chunk, until it is given back. Raises Refused."""
        held = self._by_wire.get(wire_id)
        if held is None or epoch != self._epoch or held.lease.state not in WRITABLE:
            self._metrics.late_write()
            is_stale = epoch != self._epoch
            outcome = kv_pb2.STALE_EPOCH if is_stale else kv_pb2.UNKNOWN_TRANSFER
            raise Refused(outcome, "no lease takes this chunk")
        move = held.arrivals.lend(layer, offset, length)
        if move is None:
            held.metrics.ended("received", held.transport, kv_pb2.DENIED)
            fields = {"transfer": held.lease.id, "layer": layer, "offset": offset, "bytes": length}
            log.warning("chunk out of bounds or order", extra={"fields": fields})
            raise Refused(kv_pb2.DENIED, "a chunk out of bounds or order")
        held.step(Event.CHUNK)
        return Loan(move, held.span, layer, partial(self._returned, held, layer, move.at))

    def _returned(self, held: Held, layer: int, offset: int, moved_to: int) -> None:
        held.arrivals.give_back(layer)
        held.metrics.moved("received", held.transport, moved_to - offset)
        if held.lease.state is State.FENCING and not held.arrivals.in_use:
            self._fenced(held)

    def push_opened(self, wire_id: bytes, transport: str) -> None:
        """Chunks of this transfer are about to arrive."""
        if held := self._by_wire.get(wire_id):
            held.push_opened(transport)

    def push_closed(self, wire_id: bytes) -> None:
        """No more chunks of that push will arrive."""
        if held := self._by_wire.get(wire_id):
            held.push_closed()
