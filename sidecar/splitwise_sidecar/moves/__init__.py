"""One layer of a sequence on its way: how far it is, and the digest of what was moved.

Each byte is touched once, if that can be: a copy, or a socket, and the digest share one pass.
Transports call it from threads; `move.c` does the work, or `plain` where that could not be built.
"""

import socket
from typing import Protocol

from splitwise_sidecar.moves.library import LIBRARY
from splitwise_sidecar.moves.native import NativeMove
from splitwise_sidecar.moves.plain import PlainMove
from splitwise_sidecar.pool import Span

__all__ = ["Move", "new_move"]


class Move(Protocol):
    """Bytes of a layer, in order, from `at` to `end`. One call at a time; `stop` at any time."""

    @property
    def at(self) -> int:
        """Bytes of the layer that were moved."""

    end: int

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""

    def restart(self) -> None:
        """Byte 0 is next again, with a fresh digest."""

    def stop(self) -> None:
        """Lets the call that is under way return soon, and every later one at once."""

    def digest(self) -> int:
        """xxh3-64 of what was moved."""

    def read(self, taken: int = 0, before: int = 0, patience_ms: int = 0) -> bool:
        """Takes what is there into the digest.

        `taken`: the address of a counter of the bytes that somebody copies at the same time, this
        layer's after the `before` bytes of others; 0: of nobody. Bytes are read a little ahead of
        it, so that the copy finds them in the cache. False when it did not go on for `patience_ms`,
        and the rest was read alone.
        """

    def copy_from(self, source: Span, taken: int = 0) -> None:
        """Copies the same bytes of another sequence of this length.

        `taken`: the address of a counter that they are added to; 0: none.
        """

    def gather(self, most: int, head: bytes = b"") -> bytes:
        """`head`, and after it the next bytes: at most `most`, and none past `end`."""

    def scatter(self, data: bytes | memoryview, start: int = 0) -> None:
        """Takes the bytes of `data` from `start` on, which may not go past `end`."""

    def send(self, to: socket.socket, patience_ms: int) -> None:
        """Sends; returns early when nothing can be sent for `patience_ms`. Raises OSError."""

    def receive(self, source: socket.socket, patience_ms: int) -> None:
        """Receives; returns early when nothing comes for so long. Raises OSError, or EOFError."""


def new_move(span: Span, layer: int) -> Move:
    """A move of all of this layer, at its beginning."""
    return PlainMove(span, layer) if LIBRARY is None else NativeMove(span, layer)
