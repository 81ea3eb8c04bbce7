"""A peer without a sidecar: answers each call with the bytes it is told to, however senseless."""

from typing import Any

import grpc

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.transports.grpc_bytes import ACK, SERVICE

METHODS = ("Hello", "Reserve", "Renew", "Commit", "Abort")


def correct_answers(epoch: int, transport: str = "grpc", address: str = "") -> dict[str, bytes]:
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

    def __init__(self, answers: dict[str, bytes]) -> None:
        self.answers = answers
        self.calls = dict.fromkeys((*METHODS, "Push"), 0)
        self.address = ""
        self._server = grpc.aio.server()

    async def start(self) -> "AnsweringPeer":
        """Begins to listen."""
        methods: dict[str, Any] = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name)) for name in METHODS
        }
        push: Any = grpc.stream_unary_rpc_method_handler(self._push)
        for service, handlers in (("splitwise.v1.KvPeer", methods), (SERVICE, {"Push": push})):
            generic = grpc.method_handlers_generic_handler(service, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
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
        self.calls["Push"] += 1
        async for _chunk in chunks:
            pass
        return self.answers["Push"]
