"""The receiving end of `tcp`: what a socket holds goes straight to where it belongs in the pool."""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, NamedTuple

from splitwise_core.errors import UserError
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.accept import accept
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.tls import Tls
from splitwise_sidecar.transports import STALL_S, FindSink, Sink, lent
from splitwise_sidecar.transports.sockets import readable, tune
from splitwise_sidecar.transports.tcp import ANSWER, FRAME, NAME
from splitwise_sidecar.transports.wire import PlainWire, Wire, in_order, secure

log = logging.getLogger("splitwise.sidecar.tcp_receiver")

MAX_CONNECTIONS: Final = 1024
"""Pushes at once, and connections that wait for one; who comes above is hung up on."""

MAX_LENT_LAYERS: Final = 8
"""Layers that are received in one go, before others have their turn."""

WASTE_BYTES: Final = 64 << 10

HANDSHAKE_S: Final = 5.0


class TcpReceiver:
    """Listens for pushes into the sink of the moment."""

    def __init__(
        self, movers: Movers, sink: FindSink, tls: Tls | None, refused: Callable[[], None]
    ) -> None:
        self._movers = movers
        self._sink = sink
        self._tls = tls
        self._refused = refused
        self._listener: socket.socket | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.port = 0

    def start(self, host: str, port: int) -> None:
        """Begins to listen; `port` may be 0. Raises UserError when that is not possible."""
        try:
            (family, *_, address), *_ = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            self._listener = socket.create_server(address, family=family, backlog=128)
        except OSError as error:
            raise UserError(
                "port-taken",
                where=f"--listen-tcp {host}:{port}",
                wrong=f"the sidecar cannot listen there: {error.strerror or error}",
                fix="stop the process that listens there, or choose another address",
            ) from error
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    async def stop(self) -> None:
        """Stops listening, and hangs up on everyone."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    def _accept(self) -> None:
        assert self._listener is not None
        accepted = accept(self._listener, self._accept)
        if accepted is None:
            return
        if len(self._open) == MAX_CONNECTIONS:
            log.warning("too many connections", extra={"fields": {"open": MAX_CONNECTIONS}})
            accepted.close()
            return
        accepted.setblocking(False)
        task = asyncio.create_task(self._serve(tune(accepted)))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            wire = PlainWire(accepted) if self._tls is None else await self._let_in(accepted)
        except (OSError, Refused) as error:  # TimeoutError is an OSError
            accepted.close()
            self._refused()
            log.warning("a connection is refused", extra={"fields": {"error": error}})
            return
        try:
            await _Connection(wire, self._movers, self._sink).serve()
        finally:
            wire.connection.close()

    async def _let_in(self, accepted: socket.socket) -> Wire:
        """Raises OSError, or Refused, for one without a certificate of the cluster's."""
        assert self._tls is not None
        async with asyncio.timeout(HANDSHAKE_S):
            wire = await secure(accepted, self._tls.server_context())
        try:
            self._tls.check_peer(wire.tls)
        except Refused:
            wire.connection.close()
            raise
        return wire


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
