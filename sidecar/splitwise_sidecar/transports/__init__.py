"""How KV bytes move between two sidecars. Hello says what the peer takes; the first that works is
used, and the cheapest comes first.

A transport pushes layers of a `Span` and writes what arrives through a `Sink`; it knows nothing of
leases. All of it runs on the event loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Event
from typing import Final, Protocol

from splitwise_sidecar.pool import Span

NONE: Final = "none"
"""The label of a transfer that moved nothing."""

STALL_S: Final = 10.0
"""No byte taken for this long: the link moves nothing, or next to nothing."""

CHUNK_BYTES: Final = 1 << 20
"""What is moved before others have their turn: it bounds how long a control call may wait."""


class Push(Protocol):
    """One pass over some layers of one transfer."""

    async def layer(self, layer: int, span: Span) -> int:
        """Sends a layer and returns the xxh3-64 of what was read. Raises Refused."""

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""

    def cancel(self) -> None:
        """Sends no more; nothing happens after `finish`."""


class Transport(Protocol):
    """The sending side."""

    name: str

    async def connect(self, peer: str, address: str) -> None:
        """Sees that pushes to the sidecar at `peer` (host:port) can work. Raises Refused.

        `address` is what the peer's Hello told of this transport.
        """

    def open_push(self, peer: str, transfer_id: str, epoch: int, timeout_s: float) -> Push:
        """Begins a push to a peer that `connect` has been to."""

    async def forget(self, peer: str) -> None:
        """Lets go of what is kept open to this peer."""


class Digest(Protocol):
    """What bytes are put into, in their order."""

    def update(self, data: memoryview, /) -> None:
        """Adds bytes."""

    def intdigest(self) -> int:
        """The digest of all that was added."""


@dataclass(eq=False, frozen=True, slots=True)
class Loan:
    """Memory of a lease that somebody may write until it is given back."""

    span: Span
    layer: int
    offset: int
    length: int
    digest: Digest
    stop: Event
    """Set when the lease has ended and its blocks wait for this loan only."""


class Sink(Protocol):
    """The receiving side: where a transport's bytes go. Nothing here waits.

    A layer's bytes come in order from 0 on. Whoever asked for room fills it before anything else
    runs: then a lease that ends between two chunks has no write of the first under way.
    """

    def push_opened(self, wire_id: bytes, transport: str) -> None:
        """Chunks of this transfer are about to arrive."""

    def room(
        self, wire_id: bytes, epoch: int, layer: int, offset: int, length: int
    ) -> list[memoryview]:
        """Memory for bytes [offset, offset + length) of a layer. Raises Refused."""

    def landed(self, wire_id: bytes, layer: int, offset: int, length: int) -> None:
        """So many bytes are there now: as much as room was given for, or less."""

    def push_closed(self, wire_id: bytes) -> None:
        """No more chunks of that push will arrive."""

    def lend(self, wire_id: bytes, epoch: int, layer: int, offset: int, length: int) -> Loan:
        """Memory for bytes [offset, offset + length) of a layer, until `give_back`.

        Raises Refused. A lease that ends meanwhile keeps its blocks until then.
        """

    def give_back(self, loan: Loan, count: int) -> None:
        """`count` bytes of the loan have landed and are in its digest; no other can any more."""


FindSink = Callable[[], Sink | None]
"""The sink of the moment; None takes nothing."""


def wire_id(transfer_id: str) -> bytes:
    """The transfer's id beside its bytes: of fixed length, however the router's ids look."""
    return sha256(transfer_id.encode()).digest()[:16]


def copy_in(
    sink: Sink,
    wire_id: bytes,
    epoch: int,
    layer: int,
    offset: int,
    data: Sequence[memoryview],
) -> None:
    """Copies a chunk to where it belongs. Raises Refused, and then it is dropped."""
    length = sum(map(len, data))
    _copy(sink.room(wire_id, epoch, layer, offset, length), data)
    sink.landed(wire_id, layer, offset, length)


def _copy(targets: Sequence[memoryview], sources: Sequence[memoryview]) -> None:
    """Between memories of one length that may be cut differently."""
    rest = iter(sources)
    source = memoryview(b"")
    for target in targets:
        while target:
            source = source or next(rest)
            length = min(len(target), len(source))
            target[:length] = source[:length]
            target, source = target[length:], source[length:]
