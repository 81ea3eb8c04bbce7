"""How this sidecar opens channels to others: over TLS, or in plaintext where that was asked for."""

import re
from typing import Final, Protocol

import grpc

from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.channel import OPTIONS
from splitwise_sidecar.refusal import Refused

_ADDRESS: Final = re.compile(r"[\w.:%\[\]-]+:(\d{1,5})", re.ASCII)


class Dial(Protocol):
    """Makes channels."""

    def __call__(self, address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
        """A channel to a peer at host:port; nothing is opened before its first call."""


CONNECT_MS: Final = 2000
"""What a connection, its handshake and the first words of HTTP/2 may take together. 100 ms, the
least pause between two attempts, is gRPC's limit otherwise: too little on a busy machine."""

DIAL_OPTIONS: Final = tuple((dict(OPTIONS) | {"grpc.min_reconnect_backoff_ms": CONNECT_MS}).items())
"""For channels to peers. The pauses between attempts are as everywhere."""


def must_be_an_address(peer: str) -> None:
    """Raises Refused(INVALID) when it is not host:port: gRPC would try it, and log what it is."""
    found = _ADDRESS.fullmatch(peer)
    if found is None or not 0 < int(found[1]) < 1 << 16:
        raise Refused(kv_pb2.INVALID, f"a peer's address is host:port, and not {peer!r}")


def plaintext(address: str, *options: tuple[str, int]) -> grpc.aio.Channel:
    """A channel that encrypts nothing and asks nobody who he is."""
    return grpc.aio.insecure_channel(address, options=[*DIAL_OPTIONS, *options])
