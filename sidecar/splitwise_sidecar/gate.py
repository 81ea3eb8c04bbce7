"""The gate of the gRPC door: calls of who has a certificate, but not for our name, end here.

gRPC has verified that the authority signed it. An authority that signs for others too would let all
of them in: the name says who is a sidecar of this cluster.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import grpc

from splitwise_sidecar.handshakes import Handshakes

log = logging.getLogger("splitwise.sidecar.gate")

_NAMES: Final = "x509_subject_alternative_name"
"""Where gRPC keeps the names in a certificate."""


class Gate(grpc.aio.ServerInterceptor):
    """Lets in who is called `name`; `refuse` hears of each connection that is not let in."""

    def __init__(self, name: str, handshakes: Handshakes, refuse: Callable[[], None]) -> None:
        self._name = name.encode()
        self._handshakes = handshakes
        self._refuse = refuse

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of the call, behind the gate. Who is let in asks, and is answered, once."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None

        async def behind(request: Any, context: Any) -> Any:
            await self._look_at(context)
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            behind, handler.request_deserializer, handler.response_serializer
        )

    async def _look_at(self, context: Any) -> None:
        is_first = self._handshakes.heard(context.peer())
        names = context.auth_context().get(_NAMES, ())
        if self._name in names:
            return
        if is_first:
            self._refuse()
            fields = {"peer": context.peer(), "names": [name.decode() for name in names]}
            log.warning("a certificate is for another name", extra={"fields": fields})
        why = f"your certificate is not for {self._name.decode()}"
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, why)
