"""The receiving end of `tcp`: what a socket holds goes straight to where it belongs in the pool."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Final

from splitwise_core.errors import UserError
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.accept import accept
from splitwise_sidecar.refusal import Refused
from splitwise_sidecar.transports import CHUNK_BYTES, STALL_S, FindSink, Sink
from splitwise_sidecar.transports.sockets import tune
from splitwise_sidecar.transports.tcp import ANSWER, FRAME, MAX_VECTORS, NAME

log = logging.getLogger("splitwise.sidecar.tcp_receiver")

MAX_CONNECTIONS: Final = 1024
"""Pushes at once, and connections that wait for one; who comes above is hung up on."""


class TcpReceiver:
    """Listens for pushes into the sink of the moment."""

    def __init__(self, sink: FindSink) -> None:
        self._sink = sink
        self._listener: socket.socket | None = None
        self._open: set[_Connection] = set()
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

    def stop(self) -> None:
        """Stops listening, and hangs up on everyone."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        for connection in list(self._open):
            connection.close()

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
        self._open.add(_Connection(tune(accepted), self._sink, self._open.discard))


class _Connection:
    """One peer's connection, and the push that is under way on it."""

    def __init__(
        self, connection: socket.socket, sink: FindSink, closed: Callable[["_Connection"], None]
    ) -> None:
        self._socket = connection
        self._find_sink = sink
        self._closed = closed
        self._head = bytearray(FRAME.size)
        self._head_bytes = 0
        self._sink: Sink | None = None  # while a push is under way
        self._wire_id = b""
        self._epoch = self._layer = self._offset = self._left = 0
        self._refused = False
        self._give_up: asyncio.TimerHandle | None = None
        self._waste = memoryview(bytearray(0))
        asyncio.get_running_loop().add_reader(connection, self._readable)

    def close(self) -> None:
        """Hangs up; the push has ended."""
        if self._give_up is not None:
            self._give_up.cancel()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._push_over()
        self._closed(self)

    def _readable(self) -> None:
        """Takes what is there, a chunk at most: others want their turn."""
        try:
            if self._refused:
                count = self._socket.recv_into(self._waste)
            elif self._left:
                count = self._take_bytes()
            else:
                count = self._take_head()
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if count == 0:
            self.close()

    def _take_head(self) -> int:
        count = self._socket.recv_into(memoryview(self._head)[self._head_bytes :])
        self._head_bytes += count
        if self._head_bytes == FRAME.size:
            self._head_bytes = 0
            wire_id, self._epoch, self._left, self._layer = FRAME.unpack(self._head)
            self._offset = 0
            self._begin(wire_id)
        return count

    def _begin(self, wire_id: bytes) -> None:
        """A frame: the first of a push, another layer, or the end."""
        if self._sink is None:
            self._sink = self._find_sink()
            if self._sink is None:
                self._refuse(kv_pb2.STALE_EPOCH)
                return
            self._wire_id = wire_id
            self._sink.push_opened(wire_id, NAME)
        if wire_id != self._wire_id:
            self._refuse(kv_pb2.INVALID)
        elif self._left == 0:
            self._push_over()
            self._answer(kv_pb2.OK)

    def _take_bytes(self) -> int:
        assert self._sink is not None
        length = min(self._left, CHUNK_BYTES)
        try:
            room = self._sink.room(self._wire_id, self._epoch, self._layer, self._offset, length)
        except Refused as refused:
            self._refuse(refused.outcome)
            return length  # of which not one is taken here
        count = self._socket.recvmsg_into(room[:MAX_VECTORS])[0]
        if count:
            self._sink.landed(self._wire_id, self._layer, self._offset, count)
            self._offset += count
            self._left -= count
        return count

    def _refuse(self, outcome: kv_pb2.Outcome) -> None:
        """Says why, and reads on into nowhere: to hang up now could destroy the answer."""
        self._refused = True
        self._give_up = asyncio.get_running_loop().call_later(STALL_S, self.close)
        self._waste = memoryview(bytearray(CHUNK_BYTES))
        self._push_over()
        self._answer(outcome)

    def _answer(self, outcome: kv_pb2.Outcome) -> None:
        try:
            self._socket.send(ANSWER.pack(outcome))
        except OSError as error:  # the next read finds it too
            log.info("no answer possible", extra={"fields": {"error": error}})

    def _push_over(self) -> None:
        if self._sink is not None:
            self._sink.push_closed(self._wire_id)
            self._sink = None
