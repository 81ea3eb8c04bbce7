"""The doors of a sidecar that peers find, and one message of each kind as it should be.

Everything speaks of one transfer, `fuzz`, whose lease is open while messages come.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc
import xxhash
from google.protobuf.message import DecodeError, Message

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_sidecar.refusal import label
from splitwise_sidecar.rights import WRITE_TOKEN_BYTES
from tests.sidecar.conftest import GEOMETRY, Node

ID: Final = "fuzz"
TOKENS: Final = 4
BLOCKS: Final = (7,)
LAYERS: Final = GEOMETRY.num_layers
LAYER_BYTES: Final = GEOMETRY.sequence_bytes(TOKENS) // LAYERS
REPLIES: Final[dict[str, Any]] = {
    "Hello": kv_pb2.HelloReply,
    "Reserve": kv_pb2.ReserveReply,
    "Renew": kv_pb2.RenewReply,
    "Commit": kv_pb2.CommitReply,
    "Abort": kv_pb2.AbortReply,
    "OpenProbe": kv_pb2.OpenProbeReply,
}
REQUESTS: Final[dict[str, Any]] = {
    "Hello": kv_pb2.HelloRequest,
    "Reserve": kv_pb2.ReserveRequest,
    "Renew": kv_pb2.RenewRequest,
    "Commit": kv_pb2.CommitRequest,
    "Abort": kv_pb2.AbortRequest,
    "OpenProbe": kv_pb2.OpenProbeRequest,
}
WRITE_TOKEN: Final = b"w" * WRITE_TOKEN_BYTES
MOST_WAITING: Final = 64
LONGEST_CALL_S: Final = 0.1
"""Reserve may wait for 5 s; the caller hangs up before, as callers do."""

Said = list[str]


class Inside:
    """The other side of gRPC's server: what a sidecar has them call, to be called without them."""

    def __init__(self) -> None:
        self.service: Any = None

    @contextmanager
    def looking(self) -> Iterator[None]:
        """A sidecar that starts meanwhile is looked into."""
        add_service: Any = kv_pb2_grpc.add_KvPeerServicer_to_server

        def service(servicer: Any, server: Any) -> None:
            self.service = servicer
            add_service(servicer, server)

        kv_pb2_grpc.add_KvPeerServicer_to_server = service
        try:
            yield
        finally:
            kv_pb2_grpc.add_KvPeerServicer_to_server = add_service


class Kv:
    """What the transfer is about."""

    def __init__(self, draw: random.Random) -> None:
        self.layers = [draw.randbytes(LAYER_BYTES) for _ in range(LAYERS)]
        self.digests = [
            kv_pb2.LayerDigest(layer=layer, xxh3=xxhash.xxh3_64_intdigest(content))
            for layer, content in enumerate(self.layers)
        ]


def commit_of(kv: Kv, epoch: int) -> kv_pb2.CommitRequest:
    """The Commit of the transfer."""
    return kv_pb2.CommitRequest(
        transfer_id=ID,
        epoch=epoch,
        digests=kv.digests,
        output_tokens=[7],
        write_token=WRITE_TOKEN,
    )


class Calls:
    """The service KvPeer, and what it may be asked."""

    def __init__(self, node: Node, kv: Kv) -> None:
        epoch = node.worker.epoch
        claim = kv_pb2.Claim(caller="x", write_token=WRITE_TOKEN)
        self._valid: dict[str, Message] = {
            "Hello": kv_pb2.HelloRequest(
                worker_id="x",
                geometry_fingerprint=GEOMETRY.fingerprint(),
                transports=["tcp", "grpc"],
            ),
            "Reserve": kv_pb2.ReserveRequest(
                transfer_id=ID, epoch=epoch, num_tokens=TOKENS, claim=claim
            ),
            "Renew": kv_pb2.RenewRequest(
                epoch=epoch, transfer_ids=[ID], write_tokens=[WRITE_TOKEN]
            ),
            "Commit": commit_of(kv, epoch),
            "Abort": kv_pb2.AbortRequest(
                transfer_id=ID, epoch=epoch, reason=kv_pb2.CANCELLED, claim=claim
            ),
            "OpenProbe": kv_pb2.OpenProbeRequest(epoch=epoch, num_tokens=1, claim=claim),
        }

    def valid(self, draw: random.Random) -> tuple[str, Message]:
        """A kind and a message of it; what ends the lease is rare."""
        kinds = ("Hello", "Reserve", "Reserve", "Renew", "Renew", "Commit", "Abort", "OpenProbe")
        kind = draw.choice(kinds)
        return kind, self._valid[kind]


class CallDoor(Calls):
    """The service itself: a call costs a fiftieth of what it costs over gRPC."""

    name = "calls"

    def __init__(self, node: Node, kv: Kv, inside: Inside) -> None:
        super().__init__(node, kv)
        self._service = inside.service
        self._waiting: set[asyncio.Task[str]] = set()

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> Said:
        """One after the other; how each was answered. Whoever waits is hung up on later."""
        said = []
        for kind, data in messages:
            call = asyncio.create_task(self._call(kind, data))
            for _ in range(4):
                await asyncio.sleep(0)
            if call.done():
                said.append(call.result())
                continue
            said.append("waits")
            self._waiting.add(call)
            call.add_done_callback(self._waiting.discard)
            if len(self._waiting) > MOST_WAITING:
                next(iter(self._waiting)).cancel()
        return said

    async def _call(self, kind: str, data: bytes) -> str:
        try:
            request = REQUESTS[kind].FromString(data)
        except DecodeError:
            return "no message"
        return label((await getattr(self._service, kind)(request, None)).outcome)

    async def reserve(self) -> None:
        """Claims the lease, as a peer would."""
        await self._call("Reserve", self._valid["Reserve"].SerializeToString())

    async def close(self) -> None:
        """Hangs up on all."""
        for call in list(self._waiting):
            call.cancel()


class GrpcCallDoor(Calls):
    """The service as peers reach it."""

    name = "calls over gRPC"

    def __init__(self, node: Node, kv: Kv) -> None:
        super().__init__(node, kv)
        self._channel: Any = grpc.aio.insecure_channel(node.address)
        self._methods: dict[str, Any] = {
            name: self._channel.unary_unary(f"/splitwise.v1.KvPeer/{name}") for name in REPLIES
        }

    async def send(self, messages: Sequence[tuple[str, bytes]]) -> Said:
        """All at once; how each was answered."""
        return await asyncio.gather(*(self._call(kind, data) for kind, data in messages))

    async def _call(self, kind: str, data: bytes) -> str:
        try:
            answer = await self._methods[kind](data, timeout=LONGEST_CALL_S)
        except grpc.aio.AioRpcError as error:
            return f"status {error.code().name.lower()}"
        return label(REPLIES[kind].FromString(answer).outcome)

    async def close(self) -> None:
        """Hangs up."""
        await self._channel.close()
