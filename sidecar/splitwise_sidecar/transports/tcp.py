"""Bytes over plain sockets: from the pool's memory into the socket, and out of it into the pool.

A push has a connection for itself while it lasts; connections are kept for the next one. A frame
announces layers, whose bytes follow; a frame without any ends the push, and is answered with an
Outcome. The peer may answer before: then it has refused, and takes no more.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from struct import Struct
from typing import Final

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import Move, new_move
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.transports import STALL_S, wire_id
from splitwise_sidecar.transports.sockets import CONNECT_S, connect, tune, writable

NAME: Final = "tcp"

FRAME: Final = Struct("<16sQQII")  # wire id, epoch, bytes of a layer, first layer, how many
ANSWER: Final = Struct("<I")  # Outcome

KEPT: Final = 8
"""Connections to one peer that wait for the next push."""


class TcpTransport:
    """Sends to any number of peers."""

    name = NAME

    def __init__(self, movers: Movers, count_sent: Callable[[int], None]) -> None:
        self._movers = movers
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
        door = self._doors[peer]
        return TcpPush(self._movers, door, wire_id(transfer_id), epoch, self._count_sent)

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
        self,
        movers: Movers,
        door: _Door,
        wire_id: bytes,
        epoch: int,
        count_sent: Callable[[int], None],
    ) -> None:
        self._movers = movers
        self._door = door
        self._wire_id = wire_id
        self._epoch = epoch
        self._count_sent = count_sent
        self._connection: socket.socket | None = None

    async def layers(self, layers: Sequence[int], span: Span) -> list[int]:
        """Sends these layers; the xxh3-64 of what was read of each. Raises Refused."""
        if self._connection is None:
            self._connection = await self._door.take()
        elif _has_ended(self._connection):  # it has answered before its time, or hung up
            raise await self._why(self._connection, None)
        digests = []
        for run in _runs(layers):
            await self._announce(span.layer_bytes, run[0], len(run))
            digests += await self._send(self._connection, run, span)
        return digests

    async def _send(self, to: socket.socket, layers: Sequence[int], span: Span) -> list[int]:
        moves = [new_move(span, layer) for layer in layers]
        for move in moves:
            move.end = span.layer_bytes
        left = moves
        while left:
            before = sum(move.at for move in left)
            send = partial(_send, left, to, self._movers.patience_ms(left))
            try:
                await self._movers.run(left, send, span.pool)
            except OSError as error:
                raise await self._why(to, error) from error
            self._count_sent(sum(move.at for move in left) - before)
            left = [move for move in left if move.at < move.end]
            if left:
                await self._until_writable(to)
        return [move.digest() for move in moves]

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        assert self._connection is not None
        await self._announce(0, 0, 0)
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

    async def _announce(self, layer_bytes: int, first: int, count: int) -> None:
        """So many layers follow. Raises Refused."""
        assert self._connection is not None
        frame = FRAME.pack(self._wire_id, self._epoch, layer_bytes, first, count)
        while frame:
            try:
                frame = frame[self._connection.send(frame) :]
            except BlockingIOError:
                await self._until_writable(self._connection)
            except OSError as error:
                raise await self._why(self._connection, error) from error

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


def _runs(layers: Sequence[int]) -> Iterator[Sequence[int]]:
    """The layers cut where one does not follow the other."""
    start = 0
    for end in range(1, len(layers) + 1):
        if end == len(layers) or layers[end] != layers[end - 1] + 1:
            yield layers[start:end]
            start = end


def _send(moves: Sequence[Move], to: socket.socket, patience_ms: int) -> None:
    """Sends one after the other until the socket takes no more. Raises OSError."""
    for move in moves:
        move.send(to, patience_ms)
        if move.at < move.end:
            return
