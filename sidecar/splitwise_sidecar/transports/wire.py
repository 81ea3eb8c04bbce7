"""A connection that KV passes over: in the clear from the pool's memory, or through TLS.

`send` and `receive` move bytes in a thread; the rest waits on the event loop, and holds no thread.
"""

import asyncio
import select
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from splitwise_sidecar.moves import Move
from splitwise_sidecar.moves.plain import is_ready
from splitwise_sidecar.transports.sockets import readable, writable

CHUNK_BYTES: Final = 256 << 10
"""Copied out of the pool and encrypted while the processor has it in its cache."""

HANDSHAKE_BYTES: Final = 16 << 10
"""Read at once of who has not yet shown a certificate, and kept until it makes sense."""


class Wire(Protocol):
    """One connection. Raises OSError when it breaks, EOFError at its end."""

    @property
    def connection(self) -> socket.socket:
        """To wait on until another try is worth it, and to close."""

    def send(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is on its way; False when the peer took nothing for so long."""

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing came for so long."""

    def now(self, count: int) -> bytes:
        """What is here of the next `count` bytes: less than that, or nothing, is no end."""

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

    def now(self, count: int) -> bytes:
        """What is here of the next `count` bytes: less than that, or nothing, is no end."""
        try:
            data = self.connection.recv(count)
        except BlockingIOError:
            return b""
        if not data:
            raise EOFError
        return data

    async def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        return await _read(self, count)

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


class _Scratch(threading.local):
    """A thread's own: what passes through is gone before it turns to another connection."""

    def __init__(self) -> None:
        self.plain = memoryview(bytearray(CHUNK_BYTES))
        self.encrypted = memoryview(bytearray(CHUNK_BYTES))


_scratch = _Scratch()


class SecureWire:
    """Bytes are encrypted by OpenSSL, in memory; the socket takes and gives many records at once.

    On a socket of its own OpenSSL asks the kernel once to write a record of 16 KiB, and twice to
    read one: a transfer then took nearly twice the time of the kernel, and 0.98 GB/s.
    """

    def __init__(
        self, connection: socket.socket, context: ssl.SSLContext, server_name: str | None
    ) -> None:
        """A server names none."""
        self.connection = connection
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        is_server = server_name is None
        self.tls = context.wrap_bio(self._come, self._go, is_server, server_name)
        self._out = memoryview(b"")  # encrypted, and not sent yet
        self._early = b""  # read before somebody wanted it

    async def shake_hands(self) -> None:
        """Returns when each knows who the other is. Raises OSError."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self._flush()
                if not self._fetch(HANDSHAKE_BYTES):
                    await readable(self.connection)
            except ssl.SSLError:
                self._push()  # what is wrong, for the peer
                raise
        await self._flush()

    def send(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is on its way; False when the peer took nothing for so long."""
        while not move.is_stopped:
            if not self._push():
                if not is_ready(self.connection, select.POLLOUT, patience_ms):
                    return False
            elif move.at == move.end:
                return True
            else:
                self._encrypt(move.gather(CHUNK_BYTES))
        return False

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing came for so long."""
        while move.at < move.end and not move.is_stopped:
            plain = _scratch.plain[: move.end - move.at]
            if count := self._decrypt(plain):
                move.scatter(plain[:count])
            elif not self._fetch() and not is_ready(self.connection, select.POLLIN, patience_ms):
                return False
        return move.at == move.end

    def now(self, count: int) -> bytes:
        """What is here of the next `count` bytes: less than that, or nothing, is no end."""
        if self._early:
            data, self._early = self._early[:count], self._early[count:]
            return data
        plain = _scratch.plain[:count]
        while not (length := self._decrypt(plain)):
            if not self._fetch():
                return b""
        return bytes(plain[:length])

    async def read(self, count: int) -> bytes:
        """The next `count` bytes."""
        return await _read(self, count)

    async def write(self, data: bytes) -> None:
        """Returns when all of it is on its way."""
        self._encrypt(data)
        await self._flush()

    def has_news(self) -> bool:
        """Whether the peer has said something, or hung up."""
        byte = memoryview(bytearray(1))
        try:
            while not self._decrypt(byte):
                if not self._fetch():
                    return False
        except (OSError, EOFError):
            return True
        self._early += byte
        return True

    # ---- between the plain and the encrypted ----

    def _encrypt(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self.tls.write(left) :]

    def _decrypt(self, buffer: memoryview) -> int:
        """How many bytes of `buffer` the records that are here have filled. Raises EOFError."""
        filled = 0
        try:
            while filled < len(buffer):
                count: int = self.tls.read(len(buffer) - filled, buffer[filled:])  # type: ignore[assignment]
                if not count:
                    break
                filled += count
        except ssl.SSLWantReadError:
            self._push()  # an answer of OpenSSL's own, to a peer that wants other keys
            return filled
        except ssl.SSLZeroReturnError:
            pass
        if not filled and buffer:
            raise EOFError
        return filled

    def _fetch(self, most: int = CHUNK_BYTES) -> bool:
        """Whether anything has come from the socket. Raises EOFError, and OSError."""
        try:
            count = self.connection.recv_into(_scratch.encrypted, most)
        except BlockingIOError:
            return False
        if not count:
            raise EOFError
        self._come.write(_scratch.encrypted[:count])
        return True

    def _push(self) -> bool:
        """Whether the socket has taken all that is encrypted. Raises OSError."""
        while True:
            if not self._out:
                self._out = memoryview(self._go.read())
                if not self._out:
                    return True
            try:
                self._out = self._out[self.connection.send(self._out) :]
            except BlockingIOError:
                return False

    async def _flush(self) -> None:
        while not self._push():
            await writable(self.connection)


async def _read(wire: Wire, count: int) -> bytes:
    """The next `count` bytes. Raises as the wire does."""
    data = b""
    while len(data) < count:
        if more := wire.now(count - len(data)):
            data += more
        else:
            await readable(wire.connection)
    return data


async def secure(
    connection: socket.socket, context: ssl.SSLContext, server_name: str | None = None
) -> SecureWire:
    """The connection in TLS, after the handshake; a server names none. Raises OSError."""
    wire = SecureWire(connection, context, server_name)
    try:
        await wire.shake_hands()
    except EOFError as error:
        connection.close()
        raise ConnectionResetError("the peer hung up in the handshake") from error
    except BaseException:
        connection.close()
        raise
    return wire


def in_order(call: Callable[[Move, int], bool], moves: Sequence[Move], patience_ms: int) -> int:
    """How many moves a wire's `send` or `receive` ended, one after the other. Raises as it does."""
    for count, move in enumerate(moves):
        if not call(move, patience_ms):
            return count
    return len(moves)
