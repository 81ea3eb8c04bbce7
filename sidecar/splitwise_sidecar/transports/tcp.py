"""Bytes over sockets: from the pool's memory into the socket, and out of it into the pool.

A push has a connection for itself while it lasts; connections are kept for the next one. A frame
announces layers, whose bytes follow; a frame without any ends the push, and is answered with an
Outcome. The peer may answer before: then it has refused, and takes no more.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from struct import Struct
from typing import Final

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import new_move
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused, label
from splitwise_sidecar.tls import Tls
from splitwise_sidecar.transports import STALL_S, Push, in_a_row, wire_id
from splitwise_sidecar.transports.sockets import CONNECT_S, connect, tune, writable
from splitwise_sidecar.transports.wire import PlainWire, Wire, in_order, secure

NAME: Final = "tcp"

FRAME: Final = Struct("<16sQQII")  # wire id, epoch, bytes of a layer, first layer, how many
ANSWER: Final = Struct("<I")  # Outcome

KEPT: Final = 8
"""Connections to one peer that wait for the next push."""


class TcpTransport:
    """Sends to any number of peers."""

    name = NAME

    def __init__(self, movers: Movers, count_sent: Callable[[int], None], tls: Tls | None) -> None:
        self._movers = movers
        self._tls = tls
        self._count_sent = count_sent
        self._doors: dict[str, _Door] = {}

    async def connect(self, peer: str, address: str) -> None:
        """Opens a connection to the peer's port `address`, for the first push. Raises Refused."""
        host = peer.rpartition(":")[0].strip("[]")
        if not address.isdecimal() or len(address) > 5 or int(address) > 65535:
            raise Refused(kv_pb2.INVALID, f"{peer} listens on TCP port {address!r}")
        door = _Door(host, int(address), self._tls)
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

    def __init__(self, host: str, port: int, tls: Tls | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._kept: list[Wire] = []
        self._closed = False

    async def take(self) -> Wire:
        """A connection for one push. Raises Refused."""
        while self._kept:
            kept = self._kept.pop()
            if not kept.has_news():  # it has nothing to say but that it hung up
                return kept
            kept.connection.close()
        try:
            async with asyncio.timeout(CONNECT_S):
                connection = tune(await connect(self._host, self._port))
                if self._tls is None:
                    return PlainWire(connection)
                tls = self._tls
                return await secure(connection, tls.client_context(), tls.server_name)
        except (OSError, EOFError) as error:
            why = f"no TCP connection to {self._host}:{self._port} within {CONNECT_S:g} s: {error}"
            raise Refused(kv_pb2.PEER_LOST, why) from error

    def give_back(self, wire: Wire) -> None:
        """Keeps a connection whose push went well."""
        if self._closed or len(self._kept) == KEPT:
            wire.connection.close()
        else:
            self._kept.append(wire)

    def close(self) -> None:
        """Closes what is kept; what is in use is closed by its push."""
        self._closed = True
        for kept in self._kept:
            kept.connection.close()
        self._kept.clear()


class TcpPush(Push):
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
        self._wire: Wire | None = None

    async def layers(self, layers: Sequence[int], span: Span) -> list[int]:
        """Sends these layers; the xxh3-64 of what was read of each. Raises Refused."""
        if self._wire is None:
            self._wire = await self._door.take()
        elif self._wire.has_news():  # it has answered before its time, or hung up
            raise await self._why(self._wire, None)
        digests = []
        for run in in_a_row(layers):
            await self._announce(self._wire, span.layer_bytes, run[0], len(run))
            digests += await self._send(self._wire, run, span)
        return digests

    async def _send(self, wire: Wire, layers: Sequence[int], span: Span) -> list[int]:
        moves = [new_move(span, layer) for layer in layers]
        left = moves
        while left:
            before = sum(move.at for move in left)
            send = partial(in_order, wire.send, left, self._movers.patience_ms(left))
            try:
                sent = await self._movers.run(left, send, span.pool)
            except (OSError, EOFError) as error:
                raise await self._why(wire, error) from error
            self._count_sent(sum(move.at for move in left) - before)
            left = left[sent:]
            if left:
                await self._until_writable(wire)
        return [move.digest() for move in moves]

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        assert self._wire is not None
        await self._announce(self._wire, 0, 0, 0)
        outcome = await self._answer(self._wire)
        if outcome != kv_pb2.OK:
            raise Refused(outcome, f"the peer refused the bytes: {label(outcome)}")
        self._door.give_back(self._wire)
        self._wire = None

    def cancel(self) -> None:
        """Sends no more; nothing happens after `finish`."""
        if self._wire is not None:
            self._wire.connection.close()
            self._wire = None

    async def _announce(self, wire: Wire, layer_bytes: int, first: int, count: int) -> None:
        """So many layers follow. Raises Refused."""
        frame = FRAME.pack(self._wire_id, self._epoch, layer_bytes, first, count)
        try:
            async with asyncio.timeout(STALL_S):
                await wire.write(frame)
        except TimeoutError as error:
            raise _stalled() from error
        except OSError as error:
            raise await self._why(wire, error) from error

    async def _until_writable(self, wire: Wire) -> None:
        try:
            async with asyncio.timeout(STALL_S):
                await writable(wire.connection)
        except TimeoutError as error:
            raise _stalled() from error
        if wire.has_news():
            raise await self._why(wire, None)

    async def _why(self, wire: Wire, error: Exception | None) -> Refused:
        """Why the peer takes no more: it may have said so before it hung up."""
        try:
            outcome = await self._answer(wire)
        except Refused as refused:
            return Refused(kv_pb2.PEER_LOST, f"the push broke: {error}") if error else refused
        return Refused(outcome, f"the peer stopped taking bytes: {label(outcome)}")

    async def _answer(self, wire: Wire) -> kv_pb2.Outcome:
        try:
            async with asyncio.timeout(STALL_S):
                (outcome,) = ANSWER.unpack(await wire.read(ANSWER.size))
        except TimeoutError as error:
            why = f"the peer did not answer for {STALL_S:.0f} s"
            raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error
        except (OSError, EOFError) as error:
            raise Refused(kv_pb2.PEER_LOST, f"the peer hung up: {error}") from error
        return outcome  # type: ignore[no-any-return]


def _stalled() -> Refused:
    return Refused(kv_pb2.TRANSPORT_FAILED, f"the peer took no bytes for {STALL_S:.0f} s")
