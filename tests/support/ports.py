"""Ports for processes that a test starts."""

import socket


def free_port(address: str = "127.0.0.1") -> int:
    """A port of `address` that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
