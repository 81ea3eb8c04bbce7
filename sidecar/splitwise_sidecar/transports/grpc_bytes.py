"""Bytes over gRPC, for where nothing else gets through: at about half of a raw socket's speed.

One stream a push, to a port and on a channel that control calls do not share (they waited 16 ms
behind bulk). Messages skip protobuf, which would cost as much again: a fixed header, then the
chunk.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from struct import Struct
from typing import Any, Final

import grpc

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.dial import Dial
from splitwise_sidecar.moves import new_move
from splitwise_sidecar.pool import Span
from splitwise_sidecar.refusal import Refused, label, must_be_taken
from splitwise_sidecar.transports import STALL_S, Push, port_of, wire_id
from splitwise_sidecar.transports.kept import Kept
from splitwise_sidecar.transports.sockets import BULK_DSCP, CONNECT_S

NAME: Final = "grpc"
PATH: Final = "/splitwise.v1.KvBytes/Push"

HEADER: Final = Struct("<16sQQQI4x")  # wire id, epoch, bytes of a layer, offset in it, layer
ACK: Final = Struct("<I")  # Outcome

CHUNK_BYTES: Final = 5 << 18
"""A message. With 1 MiB control calls waited for 3.7 ms at P99, with 1.5 for 4.3, and transfers
were 4 to 7 % faster; with 2 MiB they were no faster than that. The sender copies and hashes it on
the event loop: to hand it to a thread takes as long, and gRPC's own work is done there anyway."""

HANG_UP_S: Final = 0.2

_LOST: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)

_BULK: Final = ("grpc.dscp", BULK_DSCP)
"""For the channels of bytes, which are not those of control calls."""


class GrpcTransport:
    """Sends to any number of peers."""

    name = NAME

    def __init__(self, count_sent: Callable[[int], None], dial: Dial) -> None:
        self._count_sent = count_sent
        self._dial = dial
        self._doors: dict[str, _Door] = {}

    async def connect(self, peer: str, address: str) -> None:
        """Sees that the peer's port `address` takes a push: one of no bytes. Raises Refused."""
        await self.forget(peer)
        host = peer.rpartition(":")[0]
        self._doors[peer] = _Door(f"{host}:{port_of(peer, address)}", self._dial)
        await self.open_push(peer, "", 0, CONNECT_S).finish()

    def open_push(self, peer: str, transfer_id: str, epoch: int, timeout_s: float) -> "GrpcPush":
        """Begins a push to a peer that `connect` has been to."""
        door = self._doors[peer]
        return GrpcPush(door, timeout_s, wire_id(transfer_id), epoch, self._count_sent)

    async def forget(self, peer: str) -> None:
        """Closes the channels to this peer."""
        if door := self._doors.pop(peer, None):
            await door.close()


class _Door:
    """One peer's port, and the channels to it that nobody uses: a connection has one push."""

    def __init__(self, address: str, dial: Dial) -> None:
        self._address = address
        self._dial = dial
        self.kept: Kept[grpc.aio.Channel] = Kept(_connects, self.drop)
        self._closing: set[asyncio.Task[None]] = set()

    def take(self) -> grpc.aio.Channel:
        """A channel for one push. It connects, if it has to."""
        return self.kept.take() or self._dial(self._address, _BULK)

    def drop(self, channel: grpc.aio.Channel) -> None:
        """Hangs up."""
        self._closing.add(closing := asyncio.create_task(channel.close()))
        closing.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Closes what is kept; what is in use is closed by its push."""
        self.kept.close()
        await asyncio.gather(*self._closing)


def _connects(channel: grpc.aio.Channel) -> bool:
    """One that has failed to would first rest for a while, and no push is to pay for it."""
    return channel.get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE


class GrpcPush(Push):
    """One stream of chunks."""

    def __init__(
        self,
        door: _Door,
        timeout_s: float,
        wire_id: bytes,
        epoch: int,
        count_sent: Callable[[int], None],
    ) -> None:
        self._door = door
        self._channel: grpc.aio.Channel | None = door.take()
        self._call: Any = self._channel.stream_unary(PATH)(timeout=timeout_s)
        self._wire_id = wire_id
        self._epoch = epoch
        self._count_sent = count_sent

    async def layers(self, layers: Sequence[int], span: Span) -> list[int]:
        """Sends these layers; the xxh3-64 of what was read of each. Raises Refused."""
        return [await self._layer(layer, span) for layer in layers]

    async def _layer(self, layer: int, span: Span) -> int:
        move = new_move(span, layer)
        while move.at < move.end:
            head = HEADER.pack(self._wire_id, self._epoch, move.end, move.at, layer)
            chunk = move.gather(CHUNK_BYTES, head)
            await self._bounded(self._write(chunk))
            self._count_sent(len(chunk) - HEADER.size)
        return move.digest()

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        try:
            await self._bounded(self._done_writing())
            outcome = await self._bounded(self._acknowledged())
            must_be_taken(outcome)
        except BaseException:
            self.cancel()
            raise
        if self._channel is not None:
            self._door.kept.give_back(self._channel)
            self._channel = None

    def cancel(self) -> None:
        """Sends no more; nothing happens after `finish`."""
        self._call.cancel()
        if self._channel is not None:
            self._door.drop(self._channel)
            self._channel = None

    async def _write(self, chunk: bytes) -> None:
        try:
            await self._call.write(chunk)
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            # The peer answered before the end: its answer says why. Without one, this raises again.
            outcome = await self._acknowledged()
            raise Refused(outcome, f"the peer stopped taking bytes: {label(outcome)}") from None

    async def _done_writing(self) -> None:
        with suppress(asyncio.InvalidStateError, grpc.aio.BaseError, grpc.aio.AioRpcError):
            await self._call.done_writing()  # what broke it, the answer says

    async def _acknowledged(self) -> kv_pb2.Outcome:
        acknowledged = await self._call
        if len(acknowledged) != ACK.size:
            raise Refused(kv_pb2.INVALID, "the peer's answer is no answer")
        (outcome,) = ACK.unpack(acknowledged)
        return outcome  # type: ignore[no-any-return]

    async def _bounded(self, step: Any) -> Any:
        try:
            async with asyncio.timeout(STALL_S):
                return await step
        except TimeoutError as error:
            raise Refused(
                kv_pb2.TRANSPORT_FAILED, f"the peer took no bytes for {STALL_S:.0f} s"
            ) from error
        except grpc.aio.AioRpcError as error:
            lost = error.code() in _LOST or await self._hung_up()
            outcome = kv_pb2.PEER_LOST if lost else kv_pb2.TRANSPORT_FAILED
            raise Refused(outcome, f"the push broke: {error.details()}") from error

    async def _hung_up(self) -> bool:
        """Whether the connection is gone, which gRPC tells a little later than that a write failed,
        and without giving it as the reason.
        """
        if self._channel is None:
            return False
        channel, is_open = self._channel, grpc.ChannelConnectivity.READY
        with suppress(TimeoutError, grpc.aio.UsageError):  # it may be closed meanwhile
            async with asyncio.timeout(HANG_UP_S):
                await channel.wait_for_state_change(is_open)
        return channel.get_state() is not is_open
