"""Bytes over sockets: from the pool's memory into the socket, and out of it into the pool.

A push has connections for itself while it lasts; they are kept for the next one. A frame announces
layers, whose bytes follow; a frame without any ends what this connection does for the push, and is
answered with an Outcome. The peer may answer before: then it has refused, and takes no more.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from struct import Struct
from typing import Final

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import new_move
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused, label, must_be_taken
from splitwise_sidecar.tls import Tls
from splitwise_sidecar.transports import STALL_S, Push, in_a_row, port_of, wire_id
from splitwise_sidecar.transports.kept import Kept
from splitwise_sidecar.transports.sockets import CONNECT_S, connect, tune, writable
from splitwise_sidecar.transports.wire import PlainWire, Wire, in_order, secure

NAME: Final = "tcp"

FRAME: Final = Struct("<16sQQII")  # wire id, epoch, bytes of a layer, first layer, how many
ANSWER: Final = Struct("<I")  # Outcome

STREAMS: Final = 3
"""Connections that one push may use: with one a transfer had 0.70 to 0.77 of a plain socket's
speed, with two 0.90 to 1.00, with three 0.96 to 1.08 (on two processors)."""

RUN_BYTES: Final = 64 << 20
"""What a connection takes on at a time, at least a layer. So layers that are pushed while a prompt
is computed go by one, and threads do not fight for the processors that the prompt leaves."""


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
        door = _Door(host, port_of(peer, address), self._tls)
        door.kept.give_back(await door.take())
        await self.forget(peer)
        self._doors[peer] = door

    def open_push(self, peer: str, transfer_id: str, epoch: int, timeout_s: float) -> "TcpPush":
        """Begins a push to a peer that `connect` has been to."""
        door = self._doors[peer]
        return TcpPush(self._movers, door, wire_id(transfer_id), epoch, self._count_sent)

    async def forget(self, peer: str) -> None:
        """Closes the connections to this peer."""
        if door := self._doors.pop(peer, None):
            door.kept.close()


class _Door:
    """One peer's port, and the connections to it that nobody uses."""

    def __init__(self, host: str, port: int, tls: Tls | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self.kept: Kept[Wire] = Kept(_has_no_news, _hang_up)

    async def take(self) -> Wire:
        """A connection for one push. Raises Refused."""
        if kept := self.kept.take():
            return kept
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


def _has_no_news(wire: Wire) -> bool:
    return not wire.has_news()  # it has nothing to say but that it hung up


def _hang_up(wire: Wire) -> None:
    wire.connection.close()


class TcpPush(Push):
    """One pass over layers, by one connection, or by more where there is more than a thread's work.

    One stream leaves a processor idle whenever its sender and its receiver wait for each other.
    """

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
        self._new = partial(_Stream, movers, wire_id, epoch, count_sent)
        self._open: list[_Stream] = []

    @property
    def streams(self) -> int:
        """The connections in use, each with an end of its own."""
        return len(self._open)

    async def layers(self, layers: Sequence[int], span: Span) -> list[int]:
        """Sends these layers; the xxh3-64 of what was read of each. Raises Refused."""
        most = max(1, RUN_BYTES // span.layer_bytes)
        left = deque(in_a_row(layers, most))
        wanted = min(len(left), STREAMS)
        while len(self._open) < wanted:
            self._open.append(self._new(await self._door.take()))
        digests: dict[int, int] = {}
        shares = [_share(left, stream, span, digests) for stream in self._open[:wanted]]
        await _together(shares)
        return [digests[layer] for layer in layers]

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        for stream in self._open:
            await stream.end()
        for stream in self._open:
            await stream.ended()
        while self._open:
            self._door.kept.give_back(self._open.pop().wire)

    def cancel(self) -> None:
        """Sends no more; nothing happens after `finish`."""
        for stream in self._open:
            stream.wire.connection.close()
        self._open.clear()


async def _share(
    left: deque[Sequence[int]], stream: "_Stream", span: Span, digests: dict[int, int]
) -> None:
    """Sends runs of layers as long as any are left. Raises Refused."""
    while left:
        run = left.popleft()
        digests.update(zip(run, await stream.send(run, span)))


async def _together(shares: Sequence[Coroutine[None, None, None]]) -> None:
    """Returns when all have ended; with the first that raises Refused the others are cancelled."""
    if len(shares) == 1:
        await shares[0]
        return
    try:
        async with asyncio.TaskGroup() as group:
            for share in shares:
                group.create_task(share)
    except ExceptionGroup as broken:
        raise broken.exceptions[0] from None


class _Stream:
    """One connection, while a push lasts."""

    def __init__(
        self,
        movers: Movers,
        wire_id: bytes,
        epoch: int,
        count_sent: Callable[[int], None],
        wire: Wire,
    ) -> None:
        self.wire = wire
        self._movers = movers
        self._wire_id = wire_id
        self._epoch = epoch
        self._count_sent = count_sent

    async def send(self, layers: Sequence[int], span: Span) -> list[int]:
        """Sends layers that follow each other; the digest of each. Raises Refused."""
        if self.wire.has_news():  # it has answered before its time, or hung up
            raise await self._why(None)
        await self._announce(span.layer_bytes, layers[0], len(layers))
        moves = [new_move(span, layer) for layer in layers]
        left = moves
        while left:
            before = sum(move.at for move in left)
            send = partial(in_order, self.wire.send, left, self._movers.patience_ms(left))
            try:
                sent = await self._movers.run(left, send, span.pool)
            except (OSError, EOFError) as error:
                raise await self._why(error) from error
            self._count_sent(sum(move.at for move in left) - before)
            left = left[sent:]
            if left:
                await self._until_writable()
        return [move.digest() for move in moves]

    async def end(self) -> None:
        """Says that no layers follow. Raises Refused."""
        await self._announce(0, 0, 0)

    async def ended(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        outcome = await self._answer()
        must_be_taken(outcome)

    async def _announce(self, layer_bytes: int, first: int, count: int) -> None:
        """So many layers follow. Raises Refused."""
        frame = FRAME.pack(self._wire_id, self._epoch, layer_bytes, first, count)
        try:
            async with asyncio.timeout(STALL_S):
                await self.wire.write(frame)
        except TimeoutError as error:
            raise _stalled() from error
        except OSError as error:
            raise await self._why(error) from error

    async def _until_writable(self) -> None:
        try:
            async with asyncio.timeout(STALL_S):
                await writable(self.wire.connection)
        except TimeoutError as error:
            raise _stalled() from error
        if self.wire.has_news():
            raise await self._why(None)

    async def _why(self, error: Exception | None) -> Refused:
        """Why the peer takes no more: it may have said so before it hung up."""
        try:
            outcome = await self._answer()
        except Refused as refused:
            return Refused(kv_pb2.PEER_LOST, f"the push broke: {error}") if error else refused
        return Refused(outcome, f"the peer stopped taking bytes: {label(outcome)}")

    async def _answer(self) -> kv_pb2.Outcome:
        try:
            async with asyncio.timeout(STALL_S):
                (outcome,) = ANSWER.unpack(await self.wire.read(ANSWER.size))
        except TimeoutError as error:
            why = f"the peer did not answer for {STALL_S:.0f} s"
            raise Refused(kv_pb2.TRANSPORT_FAILED, why) from error
        except (OSError, EOFError) as error:
            raise Refused(kv_pb2.PEER_LOST, f"the peer hung up: {error}") from error
        return outcome  # type: ignore[no-any-return]


def _stalled() -> Refused:
    return Refused(kv_pb2.TRANSPORT_FAILED, f"the peer took no bytes for {STALL_S:.0f} s")
