"""How KV bytes move between two sidecars. Hello says what the peer takes; the first that works is
used, and the cheapest comes first.

A transport pushes layers of a `Span`, and writes what arrives where a `Sink` lets it; it knows
nothing of leases. It runs on the event loop, and has its bytes moved by threads.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.moves import Move
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused

NONE: Final = "none"
"""The label of a transfer that moved nothing."""

STALL_S: Final = 5.0
"""No byte taken for this long: the link moves nothing, or next to nothing. A transfer may wait for
that and then for the answer to its Commit, 2 s more, and is to be over within 10 s."""


class Push(Protocol):
    """One pass over some layers of one transfer."""

    @property
    def streams(self) -> int:
        """Streams of chunks that it has begun: the peer waits for the end of each."""
        return 1

    async def layers(self, layers: Sequence[int], span: Span) -> list[int]:
        """Sends these layers; the xxh3-64 of what was read of each. Raises Refused."""

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""

    async def commit(self, request: kv_pb2.CommitRequest) -> kv_pb2.CommitReply | None:
        """The peer's answer to a Commit that goes the way of the bytes, behind them.

        None when no answer comes that way, whatever became of the Commit: it has to be called. So
        it has with every transport that does not say otherwise.
        """
        return None

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
        """Begins a push to a peer that `connect` has been to. Raises Refused."""

    async def forget(self, peer: str) -> None:
        """Lets go of what is kept open to this peer."""


@dataclass(frozen=True, slots=True)
class Loan:
    """Memory for some bytes of a layer: `move` writes them where they belong.

    It is over with `give_back`, once no write of the transport's can land any more: until then a
    lease that has ended cannot return its blocks. `move` is stopped when that is waited for.
    """

    move: Move
    span: Span
    layer: int
    returned: Callable[[int], None]

    def give_back(self) -> None:
        """The bytes that were moved have landed; no other will."""
        self.returned(self.move.at)


class Sink(Protocol):
    """The receiving side: where a transport's bytes go. Nothing here waits.

    A layer's bytes come in order from 0 on.
    """

    def push_opened(self, wire_id: bytes, transport: str) -> None:
        """Chunks of this transfer are about to arrive."""

    def lend(self, wire_id: bytes, epoch: int, layer: int, offset: int, length: int) -> Loan:
        """Memory for bytes [offset, offset + length) of a layer. Raises Refused."""

    def push_closed(self, wire_id: bytes) -> None:
        """No more chunks of that push will arrive, and all that was lent is back."""


@contextmanager
def lent(
    sink: Sink, wire_id: bytes, epoch: int, parts: Iterable[tuple[int, int, int]]
) -> Iterator[list[Loan]]:
    """Memory for (layer, offset, length) of each part, until the end of the block. Raises Refused.

    Nothing may write it after that.
    """
    loans: list[Loan] = []
    try:
        for layer, offset, length in parts:
            loans.append(sink.lend(wire_id, epoch, layer, offset, length))
        yield loans
    finally:
        for loan in loans:
            loan.give_back()


def in_a_row(layers: Sequence[int], most: int | None = None) -> Iterator[Sequence[int]]:
    """The layers cut where one does not follow the other, or `most` have come together."""
    start = 0
    for end in range(1, len(layers) + 1):
        is_cut = end == len(layers) or layers[end] != layers[end - 1] + 1
        if is_cut or end - start == most:
            yield layers[start:end]
            start = end


def port_of(peer: str, address: str) -> int:
    """The port that a peer's Hello names. Raises Refused(INVALID) when it is none."""
    if not address.isdecimal() or len(address) > 5 or not 0 < int(address) < 1 << 16:
        raise Refused(kv_pb2.INVALID, f"{peer} listens on port {address!r}")
    return int(address)


FindSink = Callable[[], Sink | None]
"""The sink of the moment; None takes nothing."""


def wire_id(transfer_id: str) -> bytes:
    """The transfer's id beside its bytes: of fixed length, however the router's ids look."""
    return sha256(transfer_id.encode()).digest()[:16]
