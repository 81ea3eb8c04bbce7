"""A sidecar in the hands of a test, at the other end of a worker's real socket."""

import os
import socket
from pathlib import Path
from typing import Any

from splitwise_core.rpc import kv_pb2
from splitwise_worker.kv.sidecar_link import DATAGRAM_BYTES

WAIT_S = 20.0


class ListeningSidecar:
    """The sidecar's end of the worker's socket: attaches whoever comes, and keeps what it hears."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.settimeout(WAIT_S)
        self._listener.bind(str(path))
        self._listener.listen()
        self._connection: socket.socket | None = None

    def attach(
        self, epoch: int = 5, outcome: kv_pb2.Outcome = kv_pb2.OK, raw: bytes = b""
    ) -> kv_pb2.Attach:
        """Waits for a worker and answers it, with `raw` if need be; what it said of itself."""
        self.hang_up()
        self._connection, _ = self._listener.accept()
        self._connection.settimeout(WAIT_S)
        data, fds, _, _ = socket.recv_fds(self._connection, DATAGRAM_BYTES, 1)
        assert len(fds) == 1, "the pool's descriptor comes with the first message"
        os.close(fds[0])
        attached = kv_pb2.Attached(outcome=outcome, epoch=epoch)
        answer = kv_pb2.FromSidecarToWorker(attached=attached)
        self.say_raw(raw or answer.SerializeToString())
        return kv_pb2.FromWorkerToSidecar.FromString(data).attach

    def say(self, **kind: Any) -> None:
        """Sends one message."""
        self.say_raw(kv_pb2.FromSidecarToWorker(**kind).SerializeToString())

    def say_raw(self, data: bytes) -> None:
        """Sends a datagram as it is."""
        assert self._connection is not None
        self._connection.send(data)

    def heard(self) -> list[kv_pb2.FromWorkerToSidecar]:
        """What has come since the last call."""
        assert self._connection is not None
        found = []
        self._connection.setblocking(False)
        try:
            while data := self._connection.recv(DATAGRAM_BYTES):
                found.append(kv_pb2.FromWorkerToSidecar.FromString(data))
        except BlockingIOError:
            pass
        finally:
            self._connection.settimeout(WAIT_S)
        return found

    def hang_up(self) -> None:
        """The sidecar's process is gone, as the worker sees it."""
        if self._connection is not None:
            self._connection.close()

    def close(self) -> None:
        """Listens no more."""
        self.hang_up()
        self._listener.close()
