"""Moves in Python: what `move.c` does, said plainly; used where that could not be built."""

import ctypes
import select
import socket
from collections.abc import Iterator
from typing import Final

import xxhash

from splitwise_sidecar.pool import Span

CHUNK_BYTES: Final = 256 << 10
"""Hashed and sent, or received and hashed, while the processor has it in its cache."""

MAX_VECTORS: Final = 64
"""Pieces in one system call."""


class PlainMove:
    """`Move`, in Python."""

    def __init__(self, span: Span, layer: int) -> None:
        self.at = 0
        self.end = span.layer_bytes
        self._span = span
        self._layer = layer
        self._digest = xxhash.xxh3_64()
        self._hashed = 0
        self.is_stopped = False

    def restart(self) -> None:
        """Byte 0 is next again, with a fresh digest."""
        self.at = self._hashed = 0
        self._digest.reset()

    def stop(self) -> None:
        """Lets the call that is under way return soon, and every later one at once."""
        self.is_stopped = True

    def digest(self) -> int:
        """xxh3-64 of what was moved."""
        return self._digest.intdigest()

    def read(self, taken: int = 0, before: int = 0, patience_ms: int = 0) -> bool:
        """Takes what is there into the digest; Python is too slow to be ahead of anybody."""
        for pieces in self._chunks():
            self._moved(pieces)
        return True

    def copy_from(self, source: Span, taken: int = 0) -> None:
        """Copies the same bytes of another sequence of this length; counts them at `taken`."""
        for pieces in self._chunks():
            length = sum(map(len, pieces))
            data = b"".join(source.pieces(self._layer, self.at, length))
            _fill(pieces, memoryview(data))
            self._moved(pieces)
            if taken:
                ctypes.c_uint64.from_address(taken).value += length

    def gather(self, most: int, head: bytes = b"") -> bytes:
        """`head`, and after it the next bytes: at most `most`, and none past `end`."""
        length = min(most, self.end - self.at)
        chunk = b"".join((head, *self._span.pieces(self._layer, self.at, length)))
        self._digest.update(memoryview(chunk)[len(head) :])
        self.at = self._hashed = self.at + length
        return chunk

    def scatter(self, data: bytes | memoryview, start: int = 0) -> None:
        """Takes the bytes of `data` from `start` on, which may not go past `end`."""
        length = len(data) - start
        assert 0 <= length <= self.end - self.at
        pieces = list(self._span.pieces(self._layer, self.at, length))
        _fill(pieces, memoryview(data)[start:])
        self._moved(pieces)

    def send(self, to: socket.socket, patience_ms: int) -> None:
        """Sends; returns early when nothing can be sent for `patience_ms`. Raises OSError."""
        for pieces in self._chunks():
            self._hash_ahead(pieces)
            try:
                self.at += to.sendmsg(pieces, (), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                if not is_ready(to, select.POLLOUT, patience_ms):
                    return

    def receive(self, source: socket.socket, patience_ms: int) -> None:
        """Receives; returns early when nothing comes for so long. Raises OSError, or EOFError."""
        for pieces in self._chunks():
            try:
                count = source.recvmsg_into(pieces, 0, socket.MSG_DONTWAIT)[0]
            except BlockingIOError:
                if not is_ready(source, select.POLLIN, patience_ms):
                    return
                continue
            if count == 0:
                raise EOFError
            self._moved(_first(pieces, count))

    def _chunks(self) -> Iterator[list[memoryview]]:
        """The memory behind what comes next, again and again until it was moved."""
        while self.at < self.end and not self.is_stopped:
            length = min(CHUNK_BYTES, self.end - self.at)
            yield list(self._span.pieces(self._layer, self.at, length))[:MAX_VECTORS]

    def _moved(self, pieces: list[memoryview]) -> None:
        for piece in pieces:
            self._digest.update(piece)
            self.at += len(piece)
        self._hashed = self.at

    def _hash_ahead(self, pieces: list[memoryview]) -> None:
        """What was hashed, and could not be sent, is not hashed again."""
        start = self.at
        for piece in pieces:
            known = min(max(self._hashed - start, 0), len(piece))
            self._digest.update(piece[known:])
            start += len(piece)
        self._hashed = max(self._hashed, start)


def _fill(pieces: list[memoryview], data: memoryview) -> None:
    start = 0
    for piece in pieces:
        piece[:] = data[start : start + len(piece)]
        start += len(piece)


def _first(pieces: list[memoryview], count: int) -> list[memoryview]:
    """The first `count` bytes."""
    first = []
    for piece in pieces:
        first.append(piece[:count])
        count -= len(first[-1])
    return first


def is_ready(connection: socket.socket, events: int, patience_ms: int) -> bool:
    """Whether one of these events of `poll` comes within so long."""
    poll = select.poll()
    poll.register(connection, events)
    return bool(poll.poll(patience_ms))
