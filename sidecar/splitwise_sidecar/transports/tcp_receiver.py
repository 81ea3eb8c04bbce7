"""The receiving end of `tcp`: what a socket holds goes straight to where it belongs in the pool."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.tls import Tls
from splitwise_sidecar.transports import STALL_S, FindSink, Sink, lent
from splitwise_sidecar.transports.listener import Listener
from splitwise_sidecar.transports.sockets import readable
from splitwise_sidecar.transports.tcp import ANSWER, FRAME, NAME
from splitwise_sidecar.transports.wire import Wire, in_order

MAX_LENT_LAYERS: Final = 8
"""Layers that are received in one go, before others have their turn."""

WASTE_BYTES: Final = 64 << 10


def tcp_receiver(
    movers: Movers, find_sink: FindSink, tls: Tls | None, refused: Callable[[], None]
) -> Listener:
    """Listens for pushes into the sink of the moment."""

    async def serve(wire: Wire) -> None:
        await _Connection(wire, movers, find_sink).serve()

    return Listener(NAME, serve, tls, refused)


class _Frame(NamedTuple):
    """What the sender announces: layers of `layer_bytes`, or with none the end of a push."""

    wire_id: bytes
    epoch: int
    layer_bytes: int
    first: int
    layers: int


class _Connection:
    """One peer's connection: one push after another."""

    def __init__(self, wire: Wire, movers: Movers, sink: FindSink) -> None:
        self._wire = wire
        self._movers = movers
        self._find_sink = sink

    async def serve(self) -> None:
        """Returns when the peer has hung up, or a push was refused."""
        with suppress(OSError, EOFError):
            while True:
                outcome = await self._push(await self._frame())
                await self._answer(outcome)
                if outcome != kv_pb2.OK:
                    await self._waste()
                    return

    async def _push(self, first: _Frame) -> kv_pb2.Outcome:
        """Takes layers until the frame that ends the push. Raises OSError, or EOFError."""
        sink = self._find_sink()
        if sink is None:
            return kv_pb2.STALE_EPOCH
        sink.push_opened(first.wire_id, NAME)
        frame = first
        try:
            while frame.wire_id == first.wire_id:
                if frame.layers == 0:
                    return kv_pb2.OK
                await self._layers(sink, frame)
                frame = await self._frame()
        except Refused as refused:
            return refused.outcome
        finally:
            sink.push_closed(first.wire_id)
        return kv_pb2.INVALID

    async def _layers(self, sink: Sink, frame: _Frame) -> None:
        """Raises Refused, OSError, or EOFError."""
        layer, offset = frame.first, 0
        while layer < frame.first + frame.layers:
            with lent(sink, frame.wire_id, frame.epoch, _next_parts(frame, layer, offset)) as loans:
                moves = [loan.move for loan in loans]
                patience_ms = self._movers.patience_ms(moves)
                receive = partial(in_order, self._wire.receive, moves, patience_ms)
                whole = await self._movers.run(moves, receive, *{loan.span.pool for loan in loans})
                layer += whole
                offset = moves[whole].at if whole < len(moves) else 0
            if whole < len(moves):
                await readable(self._wire.connection)

    async def _frame(self) -> _Frame:
        return _Frame(*FRAME.unpack(await self._wire.read(FRAME.size)))

    async def _answer(self, outcome: kv_pb2.Outcome) -> None:
        async with asyncio.timeout(STALL_S):
            await self._wire.write(ANSWER.pack(outcome))

    async def _waste(self) -> None:
        """Reads on into nowhere: to hang up now could destroy the answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STALL_S):
                while True:
                    await self._wire.read(WASTE_BYTES)


def _next_parts(frame: _Frame, layer: int, offset: int) -> Iterator[tuple[int, int, int]]:
    """What comes next of a frame: (layer, offset, length)."""
    for number in range(layer, min(frame.first + frame.layers, layer + MAX_LENT_LAYERS)):
        yield number, offset, frame.layer_bytes - offset
        offset = 0
