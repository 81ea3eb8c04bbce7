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
from splitwise_sidecar.transports.sockets import BULK_DSCP, CONNECT_S

NAME: Final = "grpc"
SERVICE: Final = "splitwise.v1.KvBytes"

HEADER: Final = Struct("<16sQQI4x")  # wire id, epoch, offset in the layer, layer
ACK: Final = Struct("<I")  # Outcome


CHUNK_BYTES: Final = 5 << 18
"""A message. With 1 MiB control calls waited for 3.7 ms at P99, with 1.5 for 4.3, and transfers
were 4 to 7 % faster; with 2 MiB they were no faster than that. The sender copies and hashes it on
the event loop: to hand it to a thread takes as long, and gRPC's own work is done there anyway."""

_BULK: Final = ("grpc.dscp", BULK_DSCP)
"""For the channels of bytes, which are not those of control calls."""


class GrpcTransport:
    """Sends to any number of peers, over one channel each."""

    name = NAME

    def __init__(self, count_sent: Callable[[int], None], dial: Dial) -> None:
        self._count_sent = count_sent
        self._dial = dial
        self._ports: dict[str, int] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def connect(self, peer: str, address: str) -> None:
        """Sees that the peer's port `address` takes a push: one of no bytes. Raises Refused."""
        await self.forget(peer)
        self._ports[peer] = port_of(peer, address)
        await self.open_push(peer, "", 0, CONNECT_S).finish()

    def open_push(self, peer: str, transfer_id: str, epoch: int, timeout_s: float) -> "GrpcPush":
        """Begins a push to a peer that `connect` has been to."""
        call: Any = self._channel(peer).stream_unary(f"/{SERVICE}/Push")(timeout=timeout_s)
        return GrpcPush(call, wire_id(transfer_id), epoch, self._count_sent)

    def _channel(self, peer: str) -> grpc.aio.Channel:
        """A channel that connects, if it has to: one that has failed to would first rest for a
        while, and this push is not to pay for it.
        """
        channel = self._channels.get(peer)
        if channel and channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            self._closing.add(closing := asyncio.create_task(channel.close()))
            closing.add_done_callback(self._closing.discard)
            channel = None
        if channel is None:
            host = peer.rpartition(":")[0]
            channel = self._channels[peer] = self._dial(f"{host}:{self._ports[peer]}", _BULK)
        return channel

    async def forget(self, peer: str) -> None:
        """Closes the channel to this peer."""
        self._ports.pop(peer, None)
        if channel := self._channels.pop(peer, None):
            await channel.close()


class GrpcPush(Push):
    """One stream of chunks."""

    def __init__(
        self,
        call: Any,
        wire_id: bytes,
        epoch: int,
        count_sent: Callable[[int], None],
    ) -> None:
        self._call = call
        self._wire_id = wire_id
        self._epoch = epoch
        self._count_sent = count_sent

    async def layers(self, layers: Sequence[int], span: Span) -> list[int]:
        """Sends these layers; the xxh3-64 of what was read of each. Raises Refused."""
        return [await self._layer(layer, span) for layer in layers]

    async def _layer(self, layer: int, span: Span) -> int:
        move = new_move(span, layer)
        while move.at < move.end:
            head = HEADER.pack(self._wire_id, self._epoch, move.at, layer)
            chunk = move.gather(CHUNK_BYTES, head)
            await self._bounded(self._write(chunk))
            self._count_sent(len(chunk) - HEADER.size)
        return move.digest()

    async def finish(self) -> None:
        """Returns when the peer has taken every byte. Raises Refused when it has not."""
        await self._bounded(self._done_writing())
        outcome = await self._bounded(self._acknowledged())
        must_be_taken(outcome)

    def cancel(self) -> None:
        """Sends no more; nothing happens after `finish`."""
        self._call.cancel()

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
            lost = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            outcome = kv_pb2.PEER_LOST if lost else kv_pb2.TRANSPORT_FAILED
            raise Refused(outcome, f"the push broke: {error.details()}") from error
