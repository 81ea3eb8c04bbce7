"""One HTTP exchange straight on ASGI: nothing stands between a token and the socket."""

import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Final

from starlette.types import Receive, Scope, Send

from splitwise_core.tracing import Attribute
from splitwise_router.api.errors import ApiError
from splitwise_router.request_trace import UNTRACED, GenerationTrace

REQUEST_ID: Final = "x-request-id"
SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class ClientGone(Exception):
    """The client hung up before its request was complete: there is nobody to answer."""


class Exchange:
    """Reads one request and writes one answer. `status` is what was sent, 0 before that.

    `is_last`: the connection is closed afterwards, so that the client opens one to another router.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, is_last: bool = False) -> None:
        self.status = 0
        self.arrived_s = time.monotonic()  # not the event loop's, which stands still within a turn
        self.trace = UNTRACED
        self._is_last = is_last
        self._scope = scope
        self._receive = receive
        self._send = send
        given = self.header(REQUEST_ID)
        sane = given is not None and SANE_ID.fullmatch(given.encode("latin-1"))
        self.request_id = given if given is not None and sane else uuid.uuid4().hex

    def header(self, name: str) -> str | None:
        """The value of a request header; the last one where it came twice."""
        return dict(self._scope["headers"]).get(name.encode(), b"").decode("latin-1") or None

    def trace_of(self, choice: int) -> GenerationTrace:
        """The part of its trace that is of one choice."""
        return GenerationTrace(self.trace, self.arrived_s, choice)

    def end_trace(self, endpoint: str, status: int) -> None:
        """Says to its trace that the exchange is over."""
        attributes: dict[str, Attribute] = {
            "http.request.method": "POST",
            "http.response.status_code": status,
            "url.path": self._scope["path"],
            "splitwise.request_id": self.request_id,
        }
        error = f"HTTP status {status}" if status >= 500 else ""
        self.trace.ended(endpoint, self.arrived_s, time.monotonic(), error, attributes)

    async def body(self, limit_bytes: int) -> bytes:
        """The whole request body. Raises ApiError 413 above the limit, and ClientGone."""
        announced = self.header("content-length") or "0"
        if announced.isascii() and announced.isdigit() and int(announced) > limit_bytes:
            raise _too_large(limit_bytes)
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body += message.get("body", b"")
            if len(body) > limit_bytes:
                raise _too_large(limit_bytes)
            if not message.get("more_body", False):
                return bytes(body)

    async def until_gone(self) -> None:
        """Returns when the client has hung up. The body must have been read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def answer(
        self, status: int, document: object, headers: Mapping[str, str] | None = None
    ) -> None:
        """Sends a whole JSON answer."""
        body = json.dumps(document, ensure_ascii=False).encode()
        await self._start(
            status, "application/json", {"content-length": str(len(body)), **(headers or {})}
        )
        await self._send({"type": "http.response.body", "body": body})

    async def answer_error(self, error: ApiError) -> None:
        """Sends an error as a whole answer."""
        wait_s = error.retry_after_s
        await self.answer(
            error.status, error.body(), {} if wait_s is None else {"retry-after": str(wait_s)}
        )

    async def start_stream(self, headers: Mapping[str, str]) -> None:
        """Sends status 200 and the headers of a stream of server-sent events."""
        await self._start(200, "text/event-stream", {"cache-control": "no-cache", **headers})

    async def write(self, data: bytes, last: bool = False) -> None:
        """Sends a part of the stream; waits while the client reads more slowly than we write."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _start(self, status: int, content_type: str, headers: Mapping[str, str]) -> None:
        pairs = {"content-type": content_type, REQUEST_ID: self.request_id, **headers}
        if self._is_last:
            pairs["connection"] = "close"
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in pairs.items()],
            }
        )
        self.status = status  # only now: until then no part of a stream may follow


def _too_large(limit_bytes: int) -> ApiError:
    return ApiError(
        413,
        f"The request body is larger than {limit_bytes} bytes. Send a shorter prompt, or raise "
        "router.maxBodyBytes of the cluster.",
        code="request_too_large",
    )
