"""Ports for processes that a test starts."""

import os
import random
import socket
from collections.abc import Iterator
from typing import Final

# Below what Linux hands to clients and to port 0 (32768 and above): nobody takes one of these
# between its being chosen and its being bound.
_RANGE: Final = range(20_000, 32_000)


def _each_once() -> Iterator[int]:
    """In random order; processes that run tests side by side share the range out."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = _RANGE[own::count]
    yield from random.SystemRandom().sample(mine, len(mine))


_ports: Final = _each_once()


def free_port(address: str = "127.0.0.1") -> int:
    """A port of `address` that nothing listens on, and that was not given out before."""
    for port in _ports:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise RuntimeError(f"no port of {address} is free")
