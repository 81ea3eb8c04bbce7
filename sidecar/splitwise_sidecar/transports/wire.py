"""A connection that KV passes over: in the clear from the pool's memory, or through TLS.

`send` and `receive` move bytes in a thread; the rest waits on the event loop, and holds no thread.
"""

import asyncio
import select
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from splitwise_sidecar.moves import Move
from splitwise_sidecar.moves.plain import is_ready
from splitwise_sidecar.transports.sockets import readable, writable

CHUNK_BYTES: Final = 256 << 10
"""Copied out of the pool and encrypted while the processor has it in its cache."""

RECORD_BYTES: Final = 16 << 10
"""TLS gives no more at once."""


class Wire(Protocol):
    """One connection. Raises OSError when it breaks, EOFError at its end."""

    @property
    def connection(self) -> socket.socket:
        """To wait on until another try is worth it, and to close."""

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


class PlainWire:
    """Nothing is copied: the kernel takes bytes from the pool, and puts them there."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection

    def send(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is on its way; False when the peer took nothing for so long."""
        move.send(self.connection, patience_ms)
        return move.at == move.end

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing came for so long."""
        move.receive(self.connection, patience_ms)
        return move.at == move.end

    async def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        data = b""
        while len(data) < count:
            more = await asyncio.get_running_loop().sock_recv(self.connection, count - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    async def write(self, data: bytes) -> None:
        """Returns when all of it is on its way."""
        await asyncio.get_running_loop().sock_sendall(self.connection, data)

    def has_news(self) -> bool:
        """Whether the peer has said something, or hung up."""
        try:
            self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True


class SecureWire:
    """Bytes are encrypted by OpenSSL, or by the kernel where it does that."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.connection = connection
        self._out = memoryview(b"")  # taken out of the pool, and not sent yet
        self._early = b""  # read before somebody wanted it
        self._in = memoryview(bytearray(RECORD_BYTES))

    async def shake_hands(self) -> None:
        """Returns when each knows who the other is. Raises OSError."""
        while True:
            try:
                self.connection.do_handshake()
                return
            except ssl.SSLWantReadError:
                await readable(self.connection)
            except ssl.SSLWantWriteError:
                await writable(self.connection)

    def send(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is on its way; False when the peer took nothing for so long."""
        while not move.is_stopped:
            if not self._out:
                if move.at == move.end:
                    return True
                self._out = memoryview(move.gather(CHUNK_BYTES))
            try:
                self._out = self._out[self.connection.send(self._out) :]
            except (ssl.SSLWantWriteError, ssl.SSLWantReadError) as wanted:
                if not self._is_ready(wanted, patience_ms):
                    return False
        return False

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing came for so long."""
        while move.at < move.end and not move.is_stopped:
            try:
                count = self.connection.recv_into(self._in, min(RECORD_BYTES, move.end - move.at))
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
                more = self.connection.recv(count - len(data))
            except ssl.SSLWantReadError:
                await readable(self.connection)
                continue
            if not more:
                raise EOFError
            data += more
        return data

    async def write(self, data: bytes) -> None:
        """Returns when all of it is on its way."""
        while data:
            try:
                data = data[self.connection.send(data) :]
            except ssl.SSLWantWriteError:
                await writable(self.connection)

    def has_news(self) -> bool:
        """Whether the peer has said something, or hung up."""
        try:
            self._early += self.connection.recv(1)
        except ssl.SSLWantReadError:
            return False
        except OSError:
            return True
        return True

    def _is_ready(self, wanted: ssl.SSLError, patience_ms: int) -> bool:
        reads = isinstance(wanted, ssl.SSLWantReadError)
        events = select.POLLIN if reads else select.POLLOUT
        return is_ready(self.connection, events, patience_ms)


async def secure(
    connection: socket.socket, context: ssl.SSLContext, server_name: str | None = None
) -> SecureWire:
    """The connection in TLS, after the handshake; a server names none. Raises OSError."""
    wire = SecureWire(
        context.wrap_socket(
            connection,
            server_side=server_name is None,
            server_hostname=server_name,
            do_handshake_on_connect=False,
        )
    )
    try:
        await wire.shake_hands()
    except BaseException:
        wire.connection.close()
        raise
    return wire


def in_order(call: Callable[[Move, int], bool], moves: Sequence[Move], patience_ms: int) -> int:
    """How many moves a wire's `send` or `receive` ended, one after the other. Raises as it does."""
    for count, move in enumerate(moves):
        if not call(move, patience_ms):
            return count
    return len(moves)
