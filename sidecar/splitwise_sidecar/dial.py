"""How this sidecar opens channels to others: over TLS, or in plaintext where that was asked for."""

from typing import Final, Protocol

import grpc

from splitwise_core.rpc.channel import OPTIONS


class Dial(Protocol):
    """Makes channels."""

    def __call__(self, address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
        """A channel to a peer at host:port; nothing is opened before its first call."""


CONNECT_MS: Final = 2000
"""What a connection, its handshake and the first words of HTTP/2 may take together. 100 ms, the
least pause between two attempts, is gRPC's limit otherwise: too little on a busy machine."""

DIAL_OPTIONS: Final = tuple((dict(OPTIONS) | {"grpc.min_reconnect_backoff_ms": CONNECT_MS}).items())
"""For channels to peers. The pauses between attempts are as everywhere."""


def plaintext(address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
    """A channel that encrypts nothing and asks nobody who he is."""
    return grpc.aio.insecure_channel(address, options=[*DIAL_OPTIONS, *options])
