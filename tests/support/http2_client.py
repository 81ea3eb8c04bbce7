"""A client that says HTTP/2 frame by frame: what gRPC never does, others may, or should not."""

import asyncio
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    RemoteSettingsChanged,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)
from hyperframe.frame import DataFrame

from splitwise_sidecar.transports.grpc_bytes import ACK, PATH
from splitwise_sidecar.transports.grpc_receiver import PREFIX

REQUEST: Final = {
    ":method": "POST",
    ":scheme": "http",
    ":path": PATH,
    ":authority": "x",
    "te": "trailers",
    "content-type": "application/grpc",
}


def message(content: bytes) -> bytes:
    """As gRPC puts it into a body."""
    return PREFIX.pack(0, len(content)) + content


def data_frame(
    stream: int, content: bytes, *, padding: int | None = None, end: bool = False
) -> bytes:
    """A frame of a body."""
    flags = [*(["PADDED"] if padding is not None else []), *(["END_STREAM"] if end else [])]
    return DataFrame(stream, content, pad_length=padding or 0, flags=flags).serialize()


class Http2Client:
    """One connection to host:port. Raises EOFError where the other has hung up."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self.h2: Any = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self.events: list[Event] = []
        self._stream = -1

    async def __aenter__(self) -> "Http2Client":
        await asyncio.get_running_loop().sock_connect(self._socket, self._address)
        self.h2.initiate_connection()
        await self.flush()
        while not any(isinstance(event, RemoteSettingsChanged) for event in self.events):
            await self.hear()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    async def begin(self, **changed: str) -> int:
        """A request without its body; its stream."""
        self._stream += 2
        named = {name.replace("_", "-"): value for name, value in changed.items()}
        changes = {f":{name}" if f":{name}" in REQUEST else name: named[name] for name in named}
        self.h2.send_headers(self._stream, list((REQUEST | changes).items()))
        await self.flush()
        return self._stream

    async def flush(self) -> None:
        """Sends what h2 has to say."""
        await self.say(self.h2.data_to_send())

    async def say(self, frames: bytes) -> None:
        """Sends this."""
        await asyncio.get_running_loop().sock_sendall(self._socket, frames)

    async def hear(self) -> Sequence[Event]:
        """What comes next. Raises EOFError, or ConnectionError."""
        heard = await asyncio.get_running_loop().sock_recv(self._socket, 1 << 16)
        if not heard:
            raise EOFError
        events: list[Event] = self.h2.receive_data(heard)
        self.events += events
        await self.flush()
        return events

    async def answer(self, stream: int, *, ended: bool = False) -> tuple[int | None, str]:
        """The outcome of a push, if the answer has any, and gRPC's status.

        `ended`: whether h2 knows that the request has ended, which it does not of `data_frame`.
        """
        while not any(_is(event, StreamEnded, stream) for event in self.events):
            await self.hear()
        if not ended and not any(_is(event, StreamReset, stream) for event in self.events):
            self.h2.end_stream(stream)
            self.h2.clear_outbound_data_buffer()
        said = b"".join(e.data for e in self.events if _is(e, DataReceived, stream))
        (trailers,) = (e.headers for e in self.events if _is(e, TrailersReceived, stream))
        outcome = ACK.unpack(said[PREFIX.size :])[0] if said else None
        return outcome, dict(trailers)["grpc-status"]


def _is(event: Any, kind: type[Event], stream: int) -> bool:
    return isinstance(event, kind) and event.stream_id == stream
