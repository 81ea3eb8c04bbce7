"""How KV bytes move between two sidecars. Hello chooses, from the caller's list, cheapest first.

A transport pushes layers of a `Span` and writes what arrives through a `Sink`; it knows nothing of
leases. A faster one takes its place beside `grpc_bytes` under a name of its own.
"""

from typing import Protocol

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.pool import Span

NONE = "none"
"""The label of a transfer that moved nothing."""


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

    def open_push(self, peer: str, transfer_id: str, epoch: int, timeout_s: float) -> Push:
        """Begins a push to the sidecar at `peer` (host:port)."""

    async def forget(self, peer: str) -> None:
        """Lets go of what is kept open to this peer."""


class Sink(Protocol):
    """The receiving side: where a transport's bytes go."""

    def write(
        self, wire_id: bytes, epoch: int, layer: int, offset: int, data: memoryview
    ) -> kv_pb2.Outcome:
        """Writes a chunk, or drops it; the Outcome says which. Never waits."""

    def push_opened(self, wire_id: bytes, transport: str) -> None:
        """Chunks of this transfer are about to arrive."""

    def push_closed(self, wire_id: bytes) -> None:
        """No more chunks of that push will arrive."""
