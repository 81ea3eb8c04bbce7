"""The connection on which this sidecar's worker attaches: one datagram a message, one worker.

The worker's end closing is the only sign of its death that is needed: the kernel closes it.
"""

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.refusal import Refused

log = logging.getLogger("splitwise.sidecar.worker_link")

DATAGRAM_BYTES: Final = 128 << 10
MAX_UNSENT: Final = 4096
"""Messages that wait for a worker that does not read; past it the worker is given up."""

ATTACH_WITHIN_S: Final = 5.0

Hear = Callable[[kv_pb2.FromWorkerToSidecar, int | None], None]


class Connection:
    """One worker's connection. `hear` gets each message and the descriptor that came with it.

    `hear` may raise Refused, which closes the connection; the descriptor is closed after it.
    """

    def __init__(self, connection: socket.socket, lost: Callable[["Connection"], None]) -> None:
        self._socket = connection
        self._lost = lost
        self._unsent: deque[bytes] = deque()
        self._hear: Hear | None = None
        self._closed = False

    def start(self, hear: Hear) -> None:
        """Begins to read."""
        self._hear = hear
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def send(self, message: kv_pb2.FromSidecarToWorker) -> None:
        """Sends, or keeps it until the worker reads. After `close` nothing is sent."""
        if self._closed:
            return
        self._unsent.append(message.SerializeToString())
        if len(self._unsent) > MAX_UNSENT:
            self.close("the worker does not read")
        elif len(self._unsent) == 1:
            self._flush()

    def close(self, reason: str) -> None:
        """Hangs up and tells who cares, once."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket)
        loop.remove_writer(self._socket)
        self._socket.close()
        log.info("worker connection closed", extra={"fields": {"reason": reason}})
        self._lost(self)

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._unsent:
                self._socket.send(self._unsent[0])
                self._unsent.popleft()
        except BlockingIOError:
            loop.add_writer(self._socket, self._flush)
            return
        except OSError as error:
            self.close(f"sending failed: {error.strerror}")
            return
        loop.remove_writer(self._socket)

    def _read(self) -> None:
        try:
            data, fds, flags, _ = socket.recv_fds(self._socket, DATAGRAM_BYTES, 1)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"reading failed: {error.strerror}")
            return
        try:
            self._take(data, fds, flags)
        except Refused as refused:
            log.warning("the worker's message is senseless", extra={"fields": {"why": refused}})
            self.close(refused.detail)
        finally:
            for fd in fds:
                os.close(fd)

    def _take(self, data: bytes, fds: list[int], flags: int) -> None:
        if not data:
            self.close("the worker hung up")
            return
        if flags & socket.MSG_TRUNC:
            raise Refused(kv_pb2.INVALID, f"a message above {DATAGRAM_BYTES} bytes")
        if flags & socket.MSG_CTRUNC:
            raise Refused(kv_pb2.NO_CAPACITY, "no room for the descriptor that was sent")
        try:
            message = kv_pb2.FromWorkerToSidecar.FromString(data)
        except DecodeError as error:
            raise Refused(kv_pb2.INVALID, "a message that is no FromWorkerToSidecar") from error
        assert self._hear is not None
        self._hear(message, fds[0] if fds else None)
