"""Moves, compiled: while bytes move nothing of Python runs, and no interpreter lock is held."""

import ctypes
import errno
import os
import socket
from typing import Final

import xxhash

from splitwise_sidecar.layout import address_of
from splitwise_sidecar.moves.library import LIBRARY, SHORT, MoveState, new_bytes
from splitwise_sidecar.pool import Span

PAST_CACHE_BYTES: Final = 1 << 20
"""A layer from this size on is copied past the cache, which could not keep it until it is read."""


class NativeMove:
    """`Move`, by `move.c`."""

    def __init__(self, span: Span, layer: int) -> None:
        self._span = span
        self._layout = ctypes.byref(span.layout)
        self._state = MoveState(layer=layer, end=span.layer_bytes)
        self._move = ctypes.byref(self._state)
        LIBRARY.kv_digest_begin(ctypes.byref(self._state.digest))

    @property
    def at(self) -> int:
        """Bytes of the layer that were moved."""
        return int(self._state.at)

    @property
    def end(self) -> int:
        """Where the next call ends."""
        return int(self._state.end)

    @end.setter
    def end(self, end: int) -> None:
        self._state.end = end

    def restart(self) -> None:
        """Byte 0 is next again, with a fresh digest."""
        self._state.at = self._state.hashed = 0
        LIBRARY.kv_digest_begin(ctypes.byref(self._state.digest))

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return bool(self._state.stop)

    def stop(self) -> None:
        """Lets the call that is under way return soon, and every later one at once."""
        self._state.stop = 1

    def digest(self) -> int:
        """xxh3-64 of what was moved."""
        digest = self._state.digest
        if digest.total <= SHORT:
            return xxhash.xxh3_64_intdigest(bytes(digest.head[: digest.total]))
        return int(LIBRARY.kv_digest_value(ctypes.byref(digest)))

    def read(self, taken: int = 0, before: int = 0, patience_ms: int = 0) -> bool:
        """Takes what is there into the digest; whether the counter at `taken`, if any, went on."""
        return bool(LIBRARY.kv_read(self._layout, self._move, taken, before, patience_ms))

    def copy_from(self, source: Span, taken: int = 0) -> None:
        """Copies the same bytes of another sequence of this length; counts them at `taken`."""
        past_cache = self._span.layer_bytes >= PAST_CACHE_BYTES
        LIBRARY.kv_copy(self._layout, ctypes.byref(source.layout), self._move, past_cache, taken)

    def gather(self, most: int, head: bytes = b"") -> bytes:
        """`head`, and after it the next bytes: at most `most`, and none past `end`."""
        length = min(most, self.end - self.at)
        chunk, address = new_bytes(len(head) + length)
        ctypes.memmove(address, head, len(head))
        LIBRARY.kv_gather(self._layout, self._move, address + len(head), length)
        return chunk

    def scatter(self, data: bytes | memoryview, start: int = 0) -> None:
        """Takes the bytes of `data` from `start` on, which may not go past `end`."""
        length = len(data) - start
        assert 0 <= length <= self.end - self.at
        LIBRARY.kv_scatter(self._layout, self._move, address_of(data) + start, length)

    def send(self, to: socket.socket, patience_ms: int) -> None:
        """Sends; returns early when nothing can be sent for `patience_ms`. Raises OSError."""
        LIBRARY.kv_send(self._layout, self._move, to.fileno(), patience_ms)
        self._raise()

    def receive(self, source: socket.socket, patience_ms: int) -> None:
        """Receives; returns early when nothing comes for so long. Raises OSError, or EOFError."""
        LIBRARY.kv_receive(self._layout, self._move, source.fileno(), patience_ms)
        self._raise()

    def _raise(self) -> None:
        if self._state.error == errno.ENOTCONN:
            raise EOFError
        if self._state.error:
            raise OSError(self._state.error, os.strerror(self._state.error))
