"""The doors of a sidecar through which KV comes, whatever the transport."""

import array
import asyncio
import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from google.protobuf.message import Message
from h2.connection import H2Connection
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.geometry import geometry_message
from splitwise_sidecar.refusal import label
from splitwise_sidecar.transports import wire_id
from splitwise_sidecar.transports.grpc_bytes import ACK, HEADER
from splitwise_sidecar.transports.tcp import ANSWER, FRAME
from tests.fuzz.doors import BLOCKS, ID, LAYER_BYTES, LAYERS, TOKENS, Kv, Said, commit_of
from tests.sidecar.conftest import GEOMETRY, Node
from tests.support.http2_client import REQUEST, data_frame, message
from tests.support.kv_worker import KvWorker

FEW: Final = 3
FRAME_HEAD_BYTES: Final = 9


class _Port:
    """The port of a transport for bytes: a few messages on a connection, which then ends."""

    def __init__(
        self,
        node: Node,
        transport: str,
        said: Callable[[Sequence[tuple[str, bytes]]], bytes],
        answer: Callable[[bytes], str],
    ) -> None:
        """`said`: what is sent of messages; `answer`: the last one in what comes back."""
        self._address = ("127.0.0.1", int(node.sidecar.endpoints[transport]))
        self._said = said
        self._answer = answer

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> Said:
        """A few on a connection; its last answer, for each."""
        return [answer for some in _few(messages) for answer in await self._connection(some)]

    async def _connection(self, messages: Sequence[tuple[str, bytes]]) -> Said:
        loop = asyncio.get_running_loop()
        answers = b""
        with socket.socket() as connection:
            connection.setblocking(False)
            await loop.sock_connect(connection, self._address)
            with suppress(ConnectionError):
                await loop.sock_sendall(connection, self._said(messages))
                connection.shutdown(socket.SHUT_WR)
                while data := await loop.sock_recv(connection, 4096):
                    answers += data
        return [self._answer(answers)] * len(messages)

    async def close(self) -> None:
        """Nothing is kept open."""


class ChunkDoor(_Port):
    """The port of the transport `grpc`: chunks, and frames of HTTP/2 around and between them."""

    name = "chunks"

    def __init__(self, node: Node, kv: Kv) -> None:
        super().__init__(node, "grpc", self._frames_of, _last_outcome)
        self._epoch = node.worker.epoch
        self._kv = kv
        speaker: Any = H2Connection()
        speaker.initiate_connection()
        speaker.send_headers(1, list(REQUEST.items()))
        self._begin = speaker.data_to_send()
        second = speaker.encoder.encode(list(REQUEST.items()))
        self._frames = [
            frame.serialize()
            for frame in (
                PingFrame(0, b"eight by"),
                SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 9}),
                SettingsFrame(0, flags=["ACK"]),
                WindowUpdateFrame(0, window_increment=1 << 20),
                PriorityFrame(1, depends_on=3),
                RstStreamFrame(1, 8),
                GoAwayFrame(0, 1),
                HeadersFrame(3, second, flags=["END_HEADERS"]),
                HeadersFrame(1, second, flags=["END_HEADERS", "END_STREAM"]),
                ContinuationFrame(1, second, flags=["END_HEADERS"]),
                DataFrame(1, flags=["END_STREAM"]),
                DataFrame(3, second),
            )
        ]

    def valid(self, draw: random.Random) -> tuple[str, bytes]:
        """A whole layer, or a part of one, with or without its frame; or another frame."""
        kind = draw.choice(("chunk", "chunk", "chunk", "data", "frame"))
        if kind == "frame":
            return kind, draw.choice(self._frames)
        layer = draw.randrange(LAYERS)
        start, end = draw.choice(((0, LAYER_BYTES), (0, 1000), (1000, LAYER_BYTES)))
        head = HEADER.pack(wire_id(ID), self._epoch, LAYER_BYTES, start, layer)
        chunk = head + self._kv.layers[layer][start:end]
        if kind == "chunk":
            return kind, chunk
        return kind, data_frame(1, message(chunk), padding=draw.choice((None, 0, 9)))

    def _frames_of(self, messages: Sequence[tuple[str, bytes]]) -> bytes:
        frames = [
            content if kind != "chunk" else data_frame(1, message(content))
            for kind, content in messages
        ]
        return b"".join((self._begin, *frames, data_frame(1, b"", end=True)))


class FrameDoor(_Port):
    """The port of the transport `tcp`."""

    name = "frames"

    def __init__(self, node: Node, kv: Kv) -> None:
        super().__init__(node, "tcp", _all_of, _last_answer)
        self._epoch = node.worker.epoch
        self._kv = kv

    def valid(self, draw: random.Random) -> tuple[str, bytes]:
        """A layer, or the end."""
        layer = draw.randrange(LAYERS + 1)
        if layer == LAYERS:
            return "frame", FRAME.pack(wire_id(ID), self._epoch, 0, 0, 0)
        content = b"".join(self._kv.layers[layer:])
        head = FRAME.pack(wire_id(ID), self._epoch, LAYER_BYTES, layer, LAYERS - layer)
        return "frame", head + content


class ShmDoor:
    """The socket of the transport `shm`, with descriptors."""

    name = "datagrams"

    def __init__(self, node: Node, kv: Kv) -> None:
        self._path = node.sidecar.endpoints["shm"]
        self._epoch = node.worker.epoch
        self._pool = KvWorker(GEOMETRY, 8)
        for layer, content in enumerate(kv.layers):
            at = 0
            for run in GEOMETRY.layer_runs(layer, BLOCKS, TOKENS):
                part = content[at : at + run.length]
                self._pool.memory[run.offset : run.offset + run.length] = part
                at += run.length
        self._commit = commit_of(kv, self._epoch)
        self._null = os.open("/dev/null", os.O_RDONLY)
        self._line: socket.socket | None = None
        begin = kv_pb2.FromShmSender(wire_id=wire_id(ID), begin=self._begin())
        self._good = begin.SerializeToString()

    def valid(self, draw: random.Random) -> tuple[str, Message]:
        """The beginning, with memory or something else, a layer, the end, or a Commit."""
        often = ("begin", "null", "layers", "layers", "layers", "end")
        kind = draw.choice((*often, *often, "commit"))
        message = kv_pb2.FromShmSender(wire_id=wire_id(ID))
        if kind in ("begin", "null"):
            message.begin.CopyFrom(self._begin())
        elif kind == "layers":
            message.layers.layers.extend(range(draw.randrange(LAYERS), LAYERS))
        elif kind == "commit":
            message.commit.CopyFrom(self._commit)
        else:
            message.end.SetInParent()
        return kind, message

    def _begin(self) -> kv_pb2.ShmBegin:
        return kv_pb2.ShmBegin(
            epoch=self._epoch,
            geometry=geometry_message(GEOMETRY),
            num_blocks=8,
            blocks=BLOCKS,
            num_tokens=TOKENS,
        )

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> Said:
        """Each after a good beginning, once; whether the sidecar hung up on it."""
        said = []
        for kind, data in messages:
            if self._line is None:
                self._line = self._connect()
                await self._one(self._line, "begin", self._good)
            taken = await self._one(self._line, kind, data)
            if not taken:
                self._line.close()
                self._line = None
            said.append("taken" if taken else "hung up")
        return said

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        connection.connect(self._path)
        return connection

    async def _one(self, connection: socket.socket, kind: str, data: bytes) -> bool:
        """Sends it; whether the line is still open afterwards."""
        fds = {"begin": [self._pool.fd], "null": [self._null]}.get(kind, [])
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            connection.sendmsg([data], rights)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            while connection.recv(1 << 17):
                pass
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    async def close(self) -> None:
        """Gives the memory back."""
        if self._line is not None:
            self._line.close()
        self._pool.close()
        os.close(self._null)


def _few(messages: Sequence[tuple[str, bytes]]) -> Iterator[Sequence[tuple[str, bytes]]]:
    for start in range(0, len(messages), FEW):
        yield messages[start : start + FEW]


def _last_outcome(answers: bytes) -> str:
    """In frames of HTTP/2."""
    at = 0
    while at + FRAME_HEAD_BYTES < len(answers):
        length, kind = int.from_bytes(answers[at : at + 3]), answers[at + 3]
        at += FRAME_HEAD_BYTES + length
        if kind == DataFrame.type:
            return label(ACK.unpack(answers[at - ACK.size : at])[0])
    return "no answer"


def _all_of(messages: Sequence[tuple[str, bytes]]) -> bytes:
    return b"".join(content for _, content in messages)


def _last_answer(answers: bytes) -> str:
    last = answers[-ANSWER.size :]
    return label(ANSWER.unpack(last)[0]) if last else "no answer"
