"""A peer without a sidecar: answers each call with the bytes it is told to, however senseless.

It takes bytes over gRPC, at the port of its calls.
"""

from typing import Any

import grpc

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.transports.grpc_bytes import ACK, PATH

METHODS = ("Hello", "Reserve", "Renew", "Commit", "Abort")


def correct_answers(epoch: int, transport: str, address: str) -> dict[str, bytes]:
    """What a peer with this epoch says when all goes well; `Push` is the end of a stream of KV."""
    door = kv_pb2.Endpoint(transport=transport, address=address)
    hello = kv_pb2.HelloReply(outcome=kv_pb2.OK, worker_id="x", epoch=epoch, endpoints=[door])
    return {
        "Hello": hello.SerializeToString(),
        "Reserve": kv_pb2.ReserveReply(outcome=kv_pb2.OK, lease_ms=5000).SerializeToString(),
        "Renew": kv_pb2.RenewReply(outcome=kv_pb2.OK).SerializeToString(),
        "Commit": kv_pb2.CommitReply(outcome=kv_pb2.OK).SerializeToString(),
        "Abort": kv_pb2.AbortReply(outcome=kv_pb2.OK, fenced=True).SerializeToString(),
        "Push": ACK.pack(kv_pb2.OK),
    }


class AnsweringPeer:
    """Serves at `address`; `answers` may be changed at any time, `calls` are counted."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.calls = dict.fromkeys((*METHODS, "Push"), 0)
        self.port = 0
        self._server = grpc.aio.server()

    @property
    def address(self) -> str:
        """Where it is."""
        return f"127.0.0.1:{self.port}"

    def correct_answers(self, epoch: int) -> dict[str, bytes]:
        """What it says when all goes well."""
        return correct_answers(epoch, "grpc", str(self.port))

    async def start(self) -> "AnsweringPeer":
        """Begins to listen; there is nothing to be answered yet."""
        methods: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name)) for name in METHODS
        }
        push: Any = grpc.stream_unary_rpc_method_handler(self._push)
        of_bytes, _, name = PATH[1:].rpartition("/")
        for service, handlers in (("splitwise.v1.KvPeer", methods), (of_bytes, {name: push})):
            generic = grpc.method_handlers_generic_handler(service, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def stop(self) -> None:
        """Hangs up on everyone."""
        await self._server.stop(grace=0)

    def _unary(self, name: str) -> Any:
        async def answer(_: bytes, __: object) -> bytes:
            self.calls[name] += 1
            return self.answers[name]

        return answer

    async def _push(self, chunks: Any, _: object) -> bytes:
        """One of no bytes asks only whether this port takes them."""
        if not [chunk async for chunk in chunks]:
            return ACK.pack(kv_pb2.OK)
        self.calls["Push"] += 1
        return self.answers["Push"]
