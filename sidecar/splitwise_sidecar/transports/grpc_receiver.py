"""The receiving end of `grpc`: a server of its own, whose threads write chunks into the pool.

What gRPC makes of a message, three copies under the interpreter's lock, is not to be done on the
event loop: control calls waited there for a whole megabyte at each of their steps, 6 ms at P99
where they wait 4 now, and the bytes went no faster. A loan covers the rest of a layer: to ask the
event loop for each chunk cost a fifth of the speed.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import grpc

from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.channel import OPTIONS
from splitwise_sidecar.gate import NAMES, Gate
from splitwise_sidecar.movers import NICENESS
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import STALL_S, FindSink, Loan, Sink
from splitwise_sidecar.transports.grpc_bytes import ACK, HEADER, NAME, SERVICE

log = logging.getLogger("splitwise.sidecar.grpc_receiver")

T = TypeVar("T")

MAX_PUSHES: Final = 256
"""At once, each in a thread of its own; gRPC refuses those above."""

_OPTIONS: Final = (*OPTIONS, ("grpc.http2.max_frame_size", 4 << 20))
"""A message is one frame. In frames of 16 KiB, which is what gRPC takes otherwise, it was 5 to 10 %
slower."""


class GrpcReceiver:
    """Serves pushes into the sink of the moment, to whom the gate lets in."""

    def __init__(self, sink: FindSink, gate: Gate | None) -> None:
        self._sink = sink
        self._gate = gate
        self._threads = ThreadPoolExecutor(
            MAX_PUSHES, thread_name_prefix="grpc-push", initializer=_give_way
        )
        self._server: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, open_port: Callable[[Any], int]) -> int:
        """Begins to listen where `open_port` adds a port to the server; that port.

        Raises what `open_port` raises.
        """
        self._loop = asyncio.get_running_loop()
        self._server = grpc.server(
            self._threads, options=_OPTIONS, maximum_concurrent_rpcs=MAX_PUSHES
        )
        handler: Any = grpc.stream_unary_rpc_method_handler(self.push)
        generic = grpc.method_handlers_generic_handler(SERVICE, {"Push": handler})
        self._server.add_generic_rpc_handlers((generic,))
        port = open_port(self._server)
        # The server's own thread is to give way too: it is as nice as the one that starts it.
        self._threads.submit(self._server.start).result(STALL_S)
        return port

    async def stop(self) -> None:
        """Hangs up on everyone; when this returns no thread writes any more."""
        if self._server is not None:
            await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._server.stop(grace=0).wait(STALL_S)
        self._threads.shutdown()

    def push(self, chunks: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """What gRPC calls, in a thread, with the stream of one push: the answer to it."""
        assert self._loop is not None
        if self._gate is not None:
            names = context.auth_context().get(NAMES, ())
            if not _ask(self._loop, self._gate.lets_in, context.peer(), names):
                context.abort(grpc.StatusCode.PERMISSION_DENIED, self._gate.why)
        return ACK.pack(_Push(self._loop, self._sink).take(chunks))


class _Push:
    """One stream. Its thread writes what comes; all about leases is done on the event loop.

    Between two chunks the loop may take the memory back without waiting for anybody.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, find_sink: FindSink) -> None:
        self._loop = loop
        self._find_sink = find_sink
        self._writing = threading.Lock()
        self._sink: Sink | None = None  # once it was opened
        self._wire_id = b""
        self._epoch = 0
        self._loan: Loan | None = None

    def take(self, chunks: Iterator[bytes]) -> kv_pb2.Outcome:
        """Writes chunks until the stream ends, or one is refused: what follows it is not read."""
        try:
            for chunk in chunks:
                self._take(chunk)
        except Refused as refused:
            return refused.outcome
        except TimeoutError:
            log.error("the event loop has no time for a push")
            return kv_pb2.TRANSPORT_FAILED
        finally:
            self._loop.call_soon_threadsafe(self._close)
        return kv_pb2.OK

    def _take(self, chunk: bytes) -> None:
        if len(chunk) <= HEADER.size:
            raise Refused(kv_pb2.INVALID, "a chunk without bytes")
        wire_id, epoch, offset, layer = HEADER.unpack_from(chunk)
        # It may be taken back before it is written to: why, they say who are asked again.
        while not self._write(chunk, wire_id, epoch, layer, offset):
            length = len(chunk) - HEADER.size
            _ask(self._loop, self._lend, wire_id, epoch, layer, offset, length)

    def _write(self, chunk: bytes, wire_id: bytes, epoch: int, layer: int, offset: int) -> bool:
        """Whether the memory that is lent is that of this chunk; then it is written."""
        with self._writing:
            loan = self._loan
            if loan is None or loan.move.is_stopped:
                return False
            move, length = loan.move, len(chunk) - HEADER.size
            expected = self._wire_id, self._epoch, loan.layer, move.at
            if (wire_id, epoch, layer, offset) != expected or length > move.end - move.at:
                return False
            move.scatter(chunk, HEADER.size)
        if move.is_stopped or move.at == move.end:
            self._loop.call_soon_threadsafe(self._let_go)
        return True

    # ---- on the event loop ----

    def _lend(self, wire_id: bytes, epoch: int, layer: int, offset: int, length: int) -> None:
        """Memory from there to the layer's end. Raises Refused."""
        self._let_go()
        if self._sink is None:
            self._open(wire_id)
        assert self._sink is not None
        if wire_id != self._wire_id:
            raise Refused(kv_pb2.INVALID, "chunks of two transfers in one stream")
        lend = partial(self._sink.lend_rest, wire_id, epoch, layer, offset, length)
        self._loan, self._epoch = lend(self._let_go), epoch
        self._loan.span.pool.enter()

    def _open(self, wire_id: bytes) -> None:
        sink = self._find_sink()
        if sink is None:
            raise Refused(kv_pb2.STALE_EPOCH, "no worker is attached")
        self._sink, self._wire_id = sink, wire_id
        sink.push_opened(wire_id, NAME)

    def _let_go(self) -> None:
        """Gives the memory back, unless it is being written to: then its thread sees to that."""
        if not self._writing.acquire(blocking=False):
            return
        loan, self._loan = self._loan, None
        self._writing.release()
        if loan is not None:
            loan.span.pool.leave()
            loan.give_back()

    def _close(self) -> None:
        self._let_go()
        if self._sink is not None:
            self._sink.push_closed(self._wire_id)


def _ask(loop: asyncio.AbstractEventLoop, call: Callable[..., T], *arguments: object) -> T:
    """What the event loop gets from this call. Raises what that raises, or TimeoutError."""
    answer: Future[T] = Future()

    def make() -> None:
        try:
            answer.set_result(call(*arguments))
        except Exception as error:
            answer.set_exception(error)

    loop.call_soon_threadsafe(make)
    return answer.result(STALL_S)


def _give_way() -> None:
    """Lets the event loop go first when processors are short."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
