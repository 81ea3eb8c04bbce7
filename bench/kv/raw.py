"""What the transports are held against: a plain socket between two processes, and a plain copy."""

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from psutil import Process

CHUNK_BYTES: Final = 1 << 20
START_S: Final = 20.0


class RawTcp:
    """`sendall` of a mebibyte at a time here, `recv_into` in another process, and an answer."""

    def __init__(self, connection: socket.socket, receiver: Process, total_bytes: int) -> None:
        self._connection = connection
        self._memory = memoryview(bytearray(total_bytes))
        self.processes = [Process(), receiver]

    def move(self) -> float:
        """Seconds until the other process has all of it."""
        began = time.perf_counter()
        for start in range(0, len(self._memory), CHUNK_BYTES):
            self._connection.sendall(self._memory[start : start + CHUNK_BYTES])
        self._connection.recv(1)
        return time.perf_counter() - began


@contextmanager
def raw_tcp(total_bytes: int) -> Iterator[RawTcp]:
    """The two processes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        spawn = multiprocessing.get_context("spawn")
        receiver = spawn.Process(target=_receive, args=(port, total_bytes), daemon=True)
        receiver.start()
        listener.settimeout(START_S)
        connection, _ = listener.accept()
    with connection:
        assert receiver.pid is not None
        yield RawTcp(connection, Process(receiver.pid), total_bytes)
    receiver.join(10)


def _receive(port: int, total_bytes: int) -> None:
    memory = memoryview(bytearray(total_bytes))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while True:
            at = 0
            while at < total_bytes:
                count = connection.recv_into(memory[at : at + CHUNK_BYTES])
                if count == 0:
                    return
                at += count
            connection.send(b"k")


class Memcpy:
    """One memory to another of this process, both touched before."""

    def __init__(self, total_bytes: int) -> None:
        self._source = memoryview(bytearray(b"\x01" * total_bytes))
        self._target = memoryview(bytearray(b"\x02" * total_bytes))
        self.processes = [Process()]

    def move(self) -> float:
        """Seconds of the copy."""
        began = time.perf_counter()
        self._target[:] = self._source
        return time.perf_counter() - began
