"""What the transports are held against: a plain copy, and between two processes a plain socket and
plain gRPC calls."""

import multiprocessing
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final

import grpc
from psutil import Process

CHUNK_BYTES: Final = 1 << 20
UNARY_BYTES: Final = 4 << 20
START_S: Final = 20.0
_UNLIMITED: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
)


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


class Unary:
    """A gRPC call of a few mebibytes at a time, as one would write it first."""

    def __init__(self, port: int, server: Process, total_bytes: int) -> None:
        channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=_UNLIMITED)
        self._call: Any = channel.unary_unary("/bench/Put")
        self._memory = memoryview(bytearray(total_bytes))
        self.processes = [Process(), server]

    def move(self) -> float:
        """Seconds until the other process has all of it."""
        began = time.perf_counter()
        for start in range(0, len(self._memory), UNARY_BYTES):
            head = start.to_bytes(8)
            self._call(b"".join((head, self._memory[start : start + UNARY_BYTES])))
        return time.perf_counter() - began


@contextmanager
def unary(total_bytes: int) -> Iterator[Unary]:
    """The two processes."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=_serve, args=(theirs, total_bytes), daemon=True)
    server.start()
    assert server.pid is not None
    assert ours.poll(START_S)
    yield Unary(ours.recv(), Process(server.pid), total_bytes)
    ours.send("over")
    server.join(10)


def _serve(ours: Connection, total_bytes: int) -> None:
    memory = memoryview(bytearray(total_bytes))

    def put(data: bytes, _: object) -> bytes:
        start = int.from_bytes(data[:8])
        memory[start : start + len(data) - 8] = memoryview(data)[8:]
        return b"k"

    handler: Any = grpc.unary_unary_rpc_method_handler(put)
    server = grpc.server(ThreadPoolExecutor(1), options=_UNLIMITED)
    generic = grpc.method_handlers_generic_handler("bench", {"Put": handler})
    server.add_generic_rpc_handlers((generic,))
    ours.send(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    ours.recv()
    server.stop(0)


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
