"""A connection that KV passes over: in the clear from the pool's memory, or through TLS.

`send` and `receive` move bytes in a thread; the rest waits on the event loop, and holds no thread.
"""

import asyncio
import select
import socket
import ssl
from typing import Final, Protocol

from splitwise_sidecar.moves import Move
from splitwise_sidecar.transports.sockets import readable, writable

CHUNK_BYTES: Final = 256 << 10
"""Copied out of the pool and encrypted while the processor has it in its cache."""

RECORD_BYTES: Final = 16 << 10
"""TLS gives no more at once."""


class Wire(Protocol):
    """One connection. Raises OSError when it breaks, EOFError at its end."""

    def send(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is on its way; False when the peer took nothing for so long."""

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing came for so long."""

    async def read(self, count: int) -> bytes:
        """The next `count` bytes."""

    async def write(self, data: bytes) -> None:
        """Returns when all of it is on its way."""

    def has_news(self) -> bool:
        """Whether the peer has said something, or hung up."""

    async def until_writable(self) -> None:
        """Returns when `send` is worth another try."""

    async def until_readable(self) -> None:
        """Returns when `receive` is worth another try."""

    def close(self) -> None:
        """Hangs up."""


class PlainWire:
    """Nothing is copied: the kernel takes bytes from the pool, and puts them there."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is on its way; False when the peer took nothing for so long."""
        move.send(self._socket, patience_ms)
        return move.at == move.end

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing came for so long."""
        move.receive(self._socket, patience_ms)
        return move.at == move.end

    async def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        data = b""
        while len(data) < count:
            more = await asyncio.get_running_loop().sock_recv(self._socket, count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    async def write(self, data: bytes) -> None:
        """Returns when all of it is on its way."""
        await asyncio.get_running_loop().sock_sendall(self._socket, data)

    def has_news(self) -> bool:
        """Whether the peer has said something, or hung up."""
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    async def until_writable(self) -> None:
        """Returns when `send` is worth another try."""
        await writable(self._socket)

    async def until_readable(self) -> None:
        """Returns when `receive` is worth another try."""
        await readable(self._socket)

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()


class SecureWire:
    """Bytes are encrypted by OpenSSL, or by the kernel where it does that."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._socket = connection
        self._out = memoryview(b"")  # taken out of the pool, and not sent yet
        self._early = b""  # read before somebody wanted it
        self._in = memoryview(bytearray(RECORD_BYTES))

    async def shake_hands(self) -> None:
        """Returns when each knows who the other is. Raises OSError."""
        while True:
            try:
                self._socket.do_handshake()
                return
            except ssl.SSLWantReadError:
                await readable(self._socket)
            except ssl.SSLWantWriteError:
                await writable(self._socket)

    def send(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is on its way; False when the peer took nothing for so long."""
        while not move.is_stopped:
            if not self._out:
                if move.at == move.end:
                    return True
                self._out = memoryview(move.gather(CHUNK_BYTES))
            try:
                self._out = self._out[self._socket.send(self._out) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError) as wanted:
                if not self._is_ready(wanted, patience_ms):
                    return False
        return False

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing came for so long."""
        while move.at < move.end and not move.is_stopped:
            try:
                count = self._socket.recv_into(self._in, min(RECORD_BYTES, move.end - move.at))
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                if not self._is_ready(wanted, patience_ms):
                    return False
                continue
            if count == 0:
                raise EOFError
            move.scatter(self._in[:count])
        return move.at == move.end

    async def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        data, self._early = self._early[:count], self._early[count:]
        while len(data) < count:
            try:
                more = self._socket.recv(count - len(data))
            except ssl.SSLWantReadError:
                await readable(self._socket)
                continue
            if not more:
                raise EOFError
            data += more
        return data

    async def write(self, data: bytes) -> None:
        """Returns when all of it is on its way."""
        while data:
            try:
                data = data[self._socket.send(data) :]
            except ssl.SSLWantWriteError:
                await writable(self._socket)

    def has_news(self) -> bool:
        """Whether the peer has said something, or hung up."""
        try:
            self._early += self._socket.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return True

    async def until_writable(self) -> None:
        """Returns when `send` is worth another try."""
        await writable(self._socket)

    async def until_readable(self) -> None:
        """Returns when `receive` is worth another try."""
        await readable(self._socket)

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def _is_ready(self, wanted: ssl.SSLError, patience_ms: int) -> bool:
        poll = select.poll()
        reads = isinstance(wanted, ssl.SSLWantReadError)
        poll.register(self._socket, select.POLLIN if reads else select.POLLOUT)
        return bool(poll.poll(patience_ms))
