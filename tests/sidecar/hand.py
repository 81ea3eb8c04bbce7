"""A prompt side without a sidecar: it says exactly what it is told to, over the public formats."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
import xxhash

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_sidecar.transports import wire_id
from splitwise_sidecar.transports.grpc_bytes import ACK, HEADER, PATH
from splitwise_sidecar.transports.tcp import ANSWER, FRAME
from tests.sidecar.conftest import GEOMETRY, Node
from tests.support.kv_worker import ANSWER_WITHIN_S, DATAGRAM_BYTES

TOKENS: Final = 20
BLOCKS: Final = (9, 4)
LAYERS: Final = GEOMETRY.num_layers
LAYER_BYTES: Final = GEOMETRY.sequence_bytes(TOKENS) // LAYERS


@dataclass(frozen=True)
class Piece:
    """Bytes [start, end) of a layer, in thousandths; what is not as it should be is said."""

    layer: int
    start: int = 0
    end: int = 1000
    epoch_off_by: int = 0
    flipped: bool = False
    id: str = "t"


WHOLE: Final = tuple(Piece(layer) for layer in range(LAYERS))


CLAIM: Final = kv_pb2.Claim(caller="hand", write_token=b"w" * 16)


class Hand:
    """What it says, to one token node; its Commits are `called`, or come `behind` bytes of shm."""

    def __init__(self, node: Node, commits: str = "called") -> None:
        self.node = node
        self._commits = commits
        self.channel: Any = grpc.aio.insecure_channel(node.address)
        self._bytes: Any = grpc.aio.insecure_channel(node.bytes_address)
        self.stub: Any = kv_pb2_grpc.KvPeerStub(self.channel)
        draw = random.Random(3)
        self.kv = [draw.randbytes(LAYER_BYTES) for _ in range(LAYERS)]

    async def close(self) -> None:
        """Hangs up."""
        await self.channel.close()
        await self._bytes.close()

    @property
    def epoch(self) -> int:
        """The one that is right."""
        return self.node.worker.epoch

    async def reserve(self) -> None:
        """The worker opens a lease, and this side claims it."""
        self.node.worker.open_lease("t", BLOCKS, TOKENS)
        request = kv_pb2.ReserveRequest(
            transfer_id="t", epoch=self.epoch, num_tokens=TOKENS, wait_ms=5000, claim=CLAIM
        )
        assert (await self.stub.Reserve(request)).outcome == kv_pb2.OK

    async def commit(self, **changed: Any) -> kv_pb2.CommitReply:
        """The answer to one; with the digests of what should be there."""
        request = self.commit_request(**changed)
        if self._commits == "behind":
            return await self._commit_behind(request)
        reply: kv_pb2.CommitReply = await self.stub.Commit(request)
        return reply

    async def line(self) -> socket.socket:
        """A connection to the socket of the transport shm, whose counters were offered."""
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.setblocking(False)
        made.connect(self.node.sidecar.endpoints["shm"])
        async with asyncio.timeout(ANSWER_WITHIN_S):
            greeting = await asyncio.get_running_loop().sock_recv(made, DATAGRAM_BYTES)
        assert kv_pb2.ShmAnswer.FromString(greeting).HasField("counters")
        return made

    async def _commit_behind(self, request: kv_pb2.CommitRequest) -> kv_pb2.CommitReply:
        with await self.line() as line:
            message = kv_pb2.FromShmSender(wire_id=b"any", commit=request)
            line.send(message.SerializeToString())
            async with asyncio.timeout(ANSWER_WITHIN_S):
                data = await asyncio.get_running_loop().sock_recv(line, DATAGRAM_BYTES)
        answer = kv_pb2.ShmAnswer.FromString(data)
        assert (answer.wire_id, answer.WhichOneof("kind")) == (b"any", "committed")
        return answer.committed

    def commit_request(self, **changed: Any) -> kv_pb2.CommitRequest:
        """The right one, but for what is changed."""
        digests = [
            kv_pb2.LayerDigest(layer=layer, xxh3=xxhash.xxh3_64_intdigest(content))
            for layer, content in enumerate(self.kv)
        ]
        right: dict[str, Any] = {
            "transfer_id": "t",
            "epoch": self.epoch,
            "digests": digests,
            "output_tokens": [7],
            "write_token": CLAIM.write_token,
        }
        return kv_pb2.CommitRequest(**right | changed)

    async def abort(self) -> kv_pb2.AbortReply:
        """Gives up."""
        reply: kv_pb2.AbortReply = await self.stub.Abort(
            kv_pb2.AbortRequest(
                transfer_id="t", epoch=self.epoch, reason=kv_pb2.CANCELLED, claim=CLAIM
            )
        )
        return reply

    def content(self, piece: Piece) -> tuple[int, bytes]:
        """Where the piece begins, and its bytes."""
        start, end = (LAYER_BYTES * part // 1000 for part in (piece.start, piece.end))
        content = bytearray(self.kv[piece.layer % LAYERS][start:end])
        if piece.flipped:
            content[-1] ^= 1
        return start, bytes(content)

    async def push(self, transport: str, pieces: Sequence[Piece]) -> int:
        """One push; the outcome that it is answered with."""
        push = self._push_grpc if transport == "grpc" else self._push_tcp
        async with asyncio.timeout(ANSWER_WITHIN_S):
            return await push(pieces)

    def chunk(self, piece: Piece) -> bytes:
        """The piece as a message over gRPC."""
        start, content = self.content(piece)
        epoch = self.epoch + piece.epoch_off_by
        return HEADER.pack(wire_id(piece.id), epoch, LAYER_BYTES, start, piece.layer) + content

    async def _push_grpc(self, pieces: Sequence[Piece]) -> int:
        async def chunks() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield self.chunk(piece)

        (outcome,) = ACK.unpack(await self._bytes.stream_unary(PATH)(chunks()))
        return int(outcome)

    async def _push_tcp(self, pieces: Sequence[Piece]) -> int:
        """A frame has a layer from its beginning on: a piece's start means nothing here."""
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setblocking(False)
            port = int(self.node.sidecar.endpoints["tcp"])
            await loop.sock_connect(connection, ("127.0.0.1", port))
            for piece in pieces:
                _, content = self.content(piece)
                epoch = self.epoch + piece.epoch_off_by
                head = FRAME.pack(wire_id(piece.id), epoch, len(content), piece.layer, 1)
                await loop.sock_sendall(connection, head + content)
            end = FRAME.pack(wire_id("t"), self.epoch, 0, 0, 0)
            await loop.sock_sendall(connection, end)
            (outcome,) = ANSWER.unpack(await loop.sock_recv(connection, ANSWER.size))
            return int(outcome)

    def arrived(self) -> bool:
        """Whether the worker's blocks hold what was meant."""
        return self.node.worker.read(BLOCKS, TOKENS) == self.kv
