"""How this sidecar opens channels to others: over TLS, or in plaintext where that was asked for."""

from collections.abc import Callable

import grpc

from splitwise_core.rpc.channel import OPTIONS

Dial = Callable[[str], grpc.aio.Channel]
"""A channel to a peer at host:port; nothing is opened before its first call."""


def plaintext(address: str) -> grpc.aio.Channel:
    """A channel that encrypts nothing and asks nobody who he is."""
    return grpc.aio.insecure_channel(address, options=OPTIONS)
