"""The receiving end of `grpc`: what gRPC's messages hold goes straight to where it belongs.

gRPC's own server makes Python's bytes of each message, by three copies under the interpreter's
lock, and a fourth takes them into the pool: bytes came at half of the speed of a plain socket, and
control calls waited.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from struct import Struct
from typing import Final, NamedTuple

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.movers import Movers
from splitwise_sidecar.moves import Move
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.tls import Tls
from splitwise_sidecar.transports import FindSink, Sink, lent
from splitwise_sidecar.transports.grpc_bytes import ACK, HEADER, NAME, PATH
from splitwise_sidecar.transports.http2 import Headers, Http2, NoHttp2
from splitwise_sidecar.transports.listener import Listener
from splitwise_sidecar.transports.wire import Wire

log = logging.getLogger("splitwise.sidecar.grpc_receiver")

MESSAGES_AT_ONCE: Final = 64
"""Messages, however small, before the event loop has another turn."""

PREFIX: Final = Struct(">BI")  # of each message: whether it is compressed, and its length
_HEAD_BYTES: Final = PREFIX.size + HEADER.size

_TYPE: Final = "application/grpc"
_HEADERS: Final[Headers] = ((":status", "200"), ("content-type", _TYPE))
_OK: Final[Headers] = (("grpc-status", "0"),)
_UNIMPLEMENTED: Final[Headers] = (
    ("grpc-status", "12"),
    ("grpc-message", f"only {PATH} is served here, without compression"),
)


def grpc_receiver(
    movers: Movers, find_sink: FindSink, tls: Tls | None, refused: Callable[[], None]
) -> Listener:
    """Listens for pushes into the sink of the moment."""

    async def serve(wire: Wire) -> None:
        try:
            with suppress(EOFError):
                await _Connection(wire, movers, find_sink).serve()
        except NoHttp2 as error:
            refused()
            log.warning("a connection does not speak HTTP/2", extra={"fields": {"error": error}})
        except OSError as error:
            log.info("a connection broke", extra={"fields": {"error": error}})

    return Listener(NAME, serve, tls, refused)


class _Chunk(NamedTuple):
    """What a message has, or has left: bytes of a layer from `offset` on."""

    wire_id: bytes
    epoch: int
    layer_bytes: int
    offset: int
    layer: int
    length: int


class _Chunks:
    """The messages of one request. Raises Refused for what is none, and as Http2 does."""

    def __init__(self, http: Http2) -> None:
        self._http = http
        self._head = b""  # as far as it has come
        self._next: _Chunk | None = None

    async def next(self) -> _Chunk | None:
        """Waits until something of a chunk is here; None at the end of the request."""
        while await self._http.has_more():
            if self._next or self._begin():
                return self._next
        if self._next or self._head:
            raise Refused(kv_pb2.INVALID, "a push ends within a chunk")
        return None

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing came for so long, or something else.

        It begins with what `next` has told of.
        """
        end = move.end
        try:
            for _ in range(MESSAGES_AT_ONCE):
                chunk = self._next
                assert chunk is not None
                move.end = min(end, chunk.offset + chunk.length)
                try:
                    is_whole = self._http.receive(move, patience_ms)
                finally:
                    self._took(chunk, move.at - chunk.offset)
                if move.at == end:
                    return True
                if not is_whole or not self._begin(patience_ms) or not self._follows(chunk, move):
                    return False
        finally:
            move.end = end
        return False

    def _took(self, chunk: _Chunk, count: int) -> None:
        left = chunk.length - count
        self._next = chunk._replace(offset=chunk.offset + count, length=left) if left else None

    def _follows(self, chunk: _Chunk, move: Move) -> bool:
        """Whether what comes next is the next of the same layer."""
        assert self._next is not None
        return self._next == chunk._replace(offset=move.at, length=self._next.length)

    def _begin(self, patience_ms: int = 0) -> bool:
        """Whether the head of the next message is here, or comes soon."""
        while len(self._head) < _HEAD_BYTES:
            more = self._http.now(_HEAD_BYTES - len(self._head), patience_ms)
            if not more:
                return False
            self._head += more
        compressed, length = PREFIX.unpack_from(self._head)
        wire_id, epoch, layer_bytes, offset, layer = HEADER.unpack_from(self._head, PREFIX.size)
        self._head = b""
        if compressed or length <= HEADER.size:
            raise Refused(kv_pb2.INVALID, "a chunk that is compressed, or without bytes")
        length -= HEADER.size
        self._next = _Chunk(wire_id, epoch, layer_bytes, offset, layer, length)
        return True


class _Connection:
    """One peer's connection: one push after another."""

    def __init__(self, wire: Wire, movers: Movers, find_sink: FindSink) -> None:
        self._http = Http2(wire)
        self._movers = movers
        self._find_sink = find_sink

    async def serve(self) -> None:
        """Raises OSError, among them NoHttp2, and EOFError when the peer has hung up."""
        await self._http.greet()
        while True:
            asked = await self._http.request()
            is_push = asked.get(b":path") == PATH.encode() and asked.get(b":method") == b"POST"
            if is_push and asked.get(b"content-type", b"").startswith(_TYPE.encode()):
                outcome = ACK.pack(await self._push())
                await self._http.respond(_HEADERS, PREFIX.pack(0, len(outcome)) + outcome, _OK)
            else:
                await self._http.respond(_HEADERS, b"", _UNIMPLEMENTED)

    async def _push(self) -> kv_pb2.Outcome:
        """Takes chunks until the request ends, or one is refused: what follows it is not read."""
        chunks = _Chunks(self._http)
        sink, opened = None, b""
        try:
            while chunk := await chunks.next():
                if sink is None:
                    sink, opened = self._open(chunk.wire_id), chunk.wire_id
                if chunk.wire_id != opened:
                    raise Refused(kv_pb2.INVALID, "chunks of two transfers in one push")
                await self._layer(sink, chunks, chunk)
        except Refused as refused:
            return refused.outcome
        finally:
            if sink is not None:
                sink.push_closed(opened)
        return kv_pb2.OK

    def _open(self, wire_id: bytes) -> Sink:
        sink = self._find_sink()
        if sink is None:
            raise Refused(kv_pb2.STALE_EPOCH, "no worker is attached")
        sink.push_opened(wire_id, NAME)
        return sink

    async def _layer(self, sink: Sink, chunks: _Chunks, chunk: _Chunk) -> None:
        """Takes what is here of the layer, or comes soon. Raises Refused, and as Http2 does."""
        part = chunk.layer, chunk.offset, chunk.layer_bytes - chunk.offset
        with lent(sink, chunk.wire_id, chunk.epoch, [part]) as (loan,):
            moves = [loan.move]
            receive = partial(chunks.receive, loan.move, self._movers.patience_ms(moves))
            await self._movers.run(moves, receive, loan.span.pool)
        await asyncio.sleep(0)
