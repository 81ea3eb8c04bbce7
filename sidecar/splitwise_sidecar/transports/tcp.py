"""Bytes over plain sockets: from the pool's memory into the socket, and out of it into the pool.

A push has a connection for itself while it lasts; connections are kept for the next one. A frame
announces a layer, whose bytes follow; a frame without bytes ends the push, and is answered with an
Outcome. The peer may answer before: then it has refused, and takes no more.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from struct import Struct
from typing import Final

import xxhash

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.transports import CHUNK_BYTES, STALL_S, wire_id
from splitwise_sidecar.transports.sockets import CONNECT_S, connect, tune, writable

NAME: Final = "tcp"

FRAME: Final = Struct("<16sQQI4x")  # wire id, epoch, bytes that follow, layer
ANSWER: Final = Struct("<I")  # Outcome

MAX_VECTORS: Final = 64
"""Pieces in one system call; the kernel takes 1,024, and hashing them first would cool them."""

KEPT: Final = 8
"""Connections to one peer that wait for the next push."""


class TcpTransport:
    """Sends to any number of peers."""

    name = NAME

    def __init__(self, count_sent: Callable[[int], None]) -> None:
        self._count_sent = count_sent
        self._doors: dict[str, _Door] = {}

    async def connect(self, peer: str, address: str) -> None:
        """Opens a connection to the peer's port `address`, for the first push. Raises Refused."""
        host = peer.rpartition(":")[0].strip("[]")
        if not address.isdecimal() or len(address) > 5 or int(address) > 65535:
            raise Refused(kv_pb2.INVALID, f"{peer} listens on TCP port {address!r}")
        door = _Door(host, int(address))
        door.give_back(await door.take())
        await self.forget(peer)
        self._doors[peer] = door

    def open_push(self, peer: str, transfer_id: str, epoch: int, timeout_s: float) -> "TcpPush":
        """Begins a push to a peer that `connect` has been to."""
        return TcpPush(self._doors[peer], wire_id(transfer_id), epoch, self._count_sent)

    async def forget(self, peer: str) -> None:
        """Closes the connections to this peer."""
        if door := self._doors.pop(peer, None):
            door.close()


class _Door:
    """One peer's port, and the connections to it that nobody uses."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._kept: list[socket.socket] = []
        self._closed = False

    async def take(self) -> socket.socket:
        """A connection for one push. Raises Refused."""
        while self._kept:
            kept = self._kept.pop()
            if not _has_ended(kept):
                return kept
            kept.close()
        try:
            return tune(await connect(self._host, self._port))
        except (OSError, TimeoutError) as error:
            why = f"no TCP connection to {self._host}:{self._port} within {CONNECT_S:g} s: {error}"
            raise Refused(kv_pb2.PEER_LOST, why) from error

    def give_back(self, connection: socket.socket) -> None:
        """Keeps a connection whose push went well."""
        if self._closed or len(self._kept) == KEPT:
            connection.close()
        else:
            self._kept.append(connection)

    def close(self) -> None:
        """Closes what is kept; what is in use is closed by its push."""
        self._closed = True
        for kept in self._kept:
            kept.close()
        self._kept.clear()


def _has_ended(connection: socket.socket) -> bool:
    """Whether the peer has hung up on a connection on which it has nothing to say."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


class TcpPush:
    """One connection, while the push lasts."""

    def __init__(
        self, door: _Door, wire_id: bytes, epoch: int, count_sent: Callable[[int], None]
    ) -> None:
        self._door = door
        self._wire_id = wire_id
        self._epoch = epoch
        self._count_sent = count_sent
        self._connection: socket.socket | None = None

    async def layer(self, layer: int, span: Span) -> int:
        """Sends a layer and returns the xxh3-64 of what was read. Raises Refused."""
        if self._connection is None:
            self._connection = await self._door.take()
        elif _has_ended(self._connection):  # it has answered before its time, or hung up
            raise await self._why(self._connection, None)
        await self._send([self._frame(layer, span.layer_bytes)])
        digest = xxhash.xxh3_64()
        for chunk in _chunks(span, layer):
            for piece in chunk:
                digest.update(piece)  # just before the kernel copies it: read from memory once
            self._count_sent(await self._send(chunk))
            await asyncio.sleep(0)
        return int(digest.intdigest())

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        assert self._connection is not None
        await self._send([self._frame(0, 0)])
        outcome = await self._answer(self._connection)
        if outcome != kv_pb2.OK:
            raise Refused(outcome, f"the peer refused the bytes: {label(outcome)}")
        self._door.give_back(self._connection)
        self._connection = None

    def cancel(self) -> None:
        """Sends no more; nothing happens after `finish`."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _frame(self, layer: int, length: int) -> memoryview:
        return memoryview(FRAME.pack(self._wire_id, self._epoch, length, layer))

    async def _send(self, pieces: list[memoryview]) -> int:
        """Sends all of it; how many bytes that was. Raises Refused."""
        connection, sent = self._connection, 0
        assert connection is not None
        while pieces:
            try:
                count = connection.sendmsg(pieces)
            except BlockingIOError:
                await self._until_writable(connection)
                continue
            except OSError as error:
                raise await self._why(connection, error) from error
            sent += count
            pieces = _after(pieces, count)
        return sent

    async def _until_writable(self, connection: socket.socket) -> None:
        try:
            async with asyncio.timeout(STALL_S):
                await writable(connection)
        except TimeoutError as error:
            why = f"the peer took no bytes for {STALL_S:.0f} s"
            raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error
        if _has_ended(connection):
            raise await self._why(connection, None)

    async def _why(self, connection: socket.socket, error: OSError | None) -> Refused:
        """Why the peer takes no more: it may have said so before it hung up."""
        try:
            outcome = await self._answer(connection)
        except Refused as refused:
            return Refused(kv_pb2.PEER_LOST, f"the push broke: {error}") if error else refused
        return Refused(outcome, f"the peer stopped taking bytes: {label(outcome)}")

    async def _answer(self, connection: socket.socket) -> kv_pb2.Outcome:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(STALL_S):
                data = await loop.sock_recv(connection, ANSWER.size)
        except OSError as error:
            raise Refused(kv_pb2.PEER_LOST, f"the push broke: {error}") from error
        except TimeoutError as error:
            why = f"the peer did not answer for {STALL_S:.0f} s"
            raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error
        if len(data) != ANSWER.size:
            raise Refused(kv_pb2.PEER_LOST, "the peer hung up")
        (outcome,) = ANSWER.unpack(data)
        return outcome  # type: ignore[no-any-return]


def _chunks(span: Span, layer: int) -> Iterator[list[memoryview]]:
    """The layer's pieces, a system call's worth at a time."""
    for _, pieces in span.chunks(layer, CHUNK_BYTES):
        for start in range(0, len(pieces), MAX_VECTORS):
            yield pieces[start : start + MAX_VECTORS]


def _after(pieces: Sequence[memoryview], count: int) -> list[memoryview]:
    """What is left of the pieces after their first `count` bytes."""
    for index, piece in enumerate(pieces):
        if count < len(piece):
            return [piece[count:], *pieces[index + 1 :]]
        count -= len(piece)
    return []
