"""The serving end of HTTP/2: one request after another, whose body goes where it belongs.

h2 speaks the protocol, but DATA frames, which are nearly all that comes, do not pass through it:
as Python's bytes they would be copied again and again, under the interpreter's lock. What h2 does
for them otherwise, their end and the windows, is done here.
"""

import asyncio
import select
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived, StreamEnded, StreamReset
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import DataFrame, WindowUpdateFrame

from splitwise_sidecar.moves import Move
from splitwise_sidecar.moves.plain import is_ready
from splitwise_sidecar.transports import STALL_S
from splitwise_sidecar.transports.listener import HANDSHAKE_S
from splitwise_sidecar.transports.sockets import readable
from splitwise_sidecar.transports.wire import Wire

DATA_BYTES: Final = 4 << 20
"""A DATA frame at most: a message is one. In frames of 16 KiB, which is what is usual, there is
nearly a hundred times as much to read that is no body."""

OTHER_BYTES: Final = 16 << 10
"""A frame of another kind at most."""

WINDOW_BYTES: Final = (1 << 31) - 1
"""What may come unasked, which is all that the protocol can say: TCP holds back who is too fast,
and nothing here is kept in memory."""

TOP_UP_BYTES: Final = 1 << 30
"""What has come before the windows are opened again."""

FRAMES_AT_ONCE: Final = 256
"""Frames, however small, and pieces that are dropped, before the event loop has another turn."""

_PREFACE_BYTES: Final = 24
_HEAD: Final = Struct(">BHBBI")  # length in two parts, type, flags, stream
_END_STREAM: Final = 1
_PADDED: Final = 8
_FIRST_WINDOW: Final = 65_535
_WASTE_BYTES: Final = 64 << 10

SETTINGS: Final = {
    SettingCodes.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
    SettingCodes.MAX_FRAME_SIZE: DATA_BYTES,
    SettingCodes.MAX_CONCURRENT_STREAMS: 1,
    SettingCodes.MAX_HEADER_LIST_SIZE: OTHER_BYTES,
    SettingCodes.ENABLE_PUSH: 0,
}


class NoHttp2(ConnectionError):
    """What a peer said that it may not say."""


Headers = tuple[tuple[str, str], ...]


class Http2:
    """One connection. Everything raises OSError, among them NoHttp2, and EOFError at its end.

    `receive` may be called in a thread; one call at a time.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._h2 = H2Connection(H2Configuration(client_side=False))
        self._h2.local_settings = Settings(client=False, initial_values=dict(SETTINGS))
        self._head = b""  # of a frame, as far as it has come
        self._left = 0  # bytes of the body, in the present frame
        self._skip = 0  # bytes that follow them, and are nobody's
        self._is_last = False  # whether the present frame ends the body
        self._owed = 0  # bytes that have come since the connection's window was opened
        self._owed_here = 0  # and of these, the present request's
        self._is_dry = False  # whether nothing more was here
        self._turn = FRAMES_AT_ONCE  # frames that may still be read in this turn
        self._stream = 0  # of the present request; 0: there is none
        self._ended = False  # whether all of its body has come
        self._asked: dict[bytes, bytes] | None = None

    async def greet(self) -> None:
        """Says what this end takes, and hears that the other speaks HTTP/2."""
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES - _FIRST_WINDOW)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await self._hear(await self._wire.read(_PREFACE_BYTES))
        except TimeoutError as error:
            raise NoHttp2(f"nothing was said for {HANDSHAKE_S:g} s") from error

    async def request(self) -> dict[bytes, bytes]:
        """The headers of the next request."""
        while self._asked is None:
            self._advance()
            await self._attend()
        asked, self._asked = self._asked, None
        return asked

    async def has_more(self) -> bool:
        """Waits until bytes of the body are here; False at its end."""
        if self._is_dry:
            await readable(self._wire.connection)
            self._is_dry = False
        while not self._advance():
            if self._ended:
                return False
            await self._attend()
        return True

    def now(self, count: int, patience_ms: int = 0) -> bytes:
        """What is here of the next `count` bytes of the body, or comes soon; nothing is no end."""
        data = b""
        while not data and not self._is_dry and self._comes(patience_ms):
            data = self._wire.now(min(count, self._left))
            self._is_dry = not data and not self._is_ready(patience_ms)
        self._left -= len(data)
        return data

    def receive(self, move: Move, patience_ms: int) -> bool:
        """Whether all of the move is there; False when nothing of it came for so long."""
        end = move.end
        try:
            while move.at < end and not move.is_stopped:
                if not self._comes(patience_ms):
                    return False
                at = move.at
                move.end = min(end, at + self._left)
                try:
                    is_whole = self._wire.receive(move, patience_ms)
                finally:
                    self._left -= move.at - at
                if not is_whole:
                    self._is_dry = not move.is_stopped
                    return False
        finally:
            move.end = end
        return move.at == end

    async def respond(self, headers: Headers, body: bytes, trailers: Headers) -> None:
        """Answers the request; what is still to come of its body is not wanted."""
        stream = self._stream
        with self._spoken():
            self._h2.send_headers(stream, headers)
            if body:
                self._h2.send_data(stream, body)
            self._h2.send_headers(stream, trailers, end_stream=True)
            if not self._ended:
                self._h2.reset_stream(stream, ErrorCodes.NO_ERROR)
        self._skip, self._left = self._skip + self._left, 0
        self._stream, self._is_last, self._ended = 0, False, False
        await self._flush()

    # ---- frames ----

    def _advance(self) -> bool:
        """Whether bytes of the body are next; reads what is here before them.

        It waits for nothing. What is no DATA, and the end of the body, are for `_attend`.
        """
        while not self._left:
            if self._ended or self._must_attend():
                return False
            if self._is_last and not self._skip:
                self._end()
            elif not (self._drop() if self._skip else self._read_head()):
                return False
        return True

    def _drop(self) -> bool:
        """Whether anything was here of what is nobody's."""
        dropped = len(self._wire.now(min(self._skip, _WASTE_BYTES)))
        self._skip -= dropped
        self._turn -= 1
        return bool(dropped)

    def _comes(self, patience_ms: int) -> bool:
        """The same, of what comes within so long."""
        while not self._advance():
            if self._ended or self._must_attend():
                return False
            if not self._is_ready(patience_ms):
                return False
        return True

    def _is_ready(self, patience_ms: int) -> bool:
        """Whether more comes within so long."""
        if not patience_ms:
            return False
        return is_ready(self._wire.connection, select.POLLIN, patience_ms)

    def _must_attend(self) -> bool:
        is_other = len(self._head) >= _HEAD.size and self._head[3] != DataFrame.type
        return is_other or not self._turn or self._owed >= TOP_UP_BYTES

    def _read_head(self) -> bool:
        """Whether a frame of DATA begins. The head of another stays, for `_attend`."""
        while len(self._head) < self._head_bytes():
            more = self._wire.now(self._head_bytes() - len(self._head))
            if not more:
                return False
            self._head += more
        high, low, kind, flags, stream = _HEAD.unpack_from(self._head)
        if kind != DataFrame.type:
            return False
        length, inside = high << 16 | low, len(self._head) - _HEAD.size
        padding = self._head[_HEAD.size] if inside else 0
        if inside + padding > length or length > DATA_BYTES:
            raise NoHttp2(f"a frame of {length} bytes, of which {padding} are padding")
        self._head = b""
        self._turn -= 1
        self._owed += length
        if stream != self._stream or not self._stream:
            self._skip = length - inside  # of a request that was answered before its end
        else:
            self._owed_here += length
            self._left, self._skip = length - inside - padding, padding
            self._is_last = bool(flags & _END_STREAM)
        return True

    def _head_bytes(self) -> int:
        """A frame's head, and the length of padding where there is some."""
        is_here = len(self._head) >= _HEAD.size
        is_padded = is_here and self._head[3] == DataFrame.type and self._head[4] & _PADDED
        return _HEAD.size + bool(is_padded)

    def _end(self) -> None:
        """The body ended with a frame that h2 has not seen."""
        self._is_last = False
        end = DataFrame(self._stream, flags=("END_STREAM",))
        self._take(end.serialize())

    async def _attend(self) -> None:
        """Deals with what is no body; waits for it, if there is nothing."""
        if not self._turn:
            await asyncio.sleep(0)
            self._turn = FRAMES_AT_ONCE
        elif self._owed >= TOP_UP_BYTES:
            await self._top_up()
        elif self._must_attend():
            high, low, *_ = _HEAD.unpack_from(self._head)
            length = high << 16 | low
            if length > OTHER_BYTES:
                raise NoHttp2(f"a frame of {length} bytes that is no DATA")
            head, self._head = self._head, b""
            await self._hear(head + await self._wire.read(length))
        else:
            await readable(self._wire.connection)

    async def _top_up(self) -> None:
        """Opens the windows by as much as has come."""
        for stream, owed in ((0, self._owed), (self._stream, self._owed_here)):
            if owed:
                await self._write(WindowUpdateFrame(stream, window_increment=owed).serialize())
        self._owed = self._owed_here = 0

    # ---- h2 ----

    async def _hear(self, data: bytes) -> None:
        self._take(data)
        await self._flush()

    def _take(self, data: bytes) -> None:
        with self._spoken():
            events = self._h2.receive_data(data)
        for event in events:
            if isinstance(event, RequestReceived):
                self._stream, self._ended, self._owed_here = event.stream_id, False, 0
                self._asked = {bytes(name): bytes(value) for name, value in event.headers}
            elif isinstance(event, StreamEnded):
                self._ended = True
            elif isinstance(event, StreamReset) and event.stream_id == self._stream:
                raise EOFError  # who gives up one request begins the next on another connection

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        try:
            yield
        except ProtocolError as error:
            raise NoHttp2(str(error) or type(error).__name__) from error

    async def _flush(self) -> None:
        if data := self._h2.data_to_send():
            await self._write(data)

    async def _write(self, data: bytes) -> None:
        async with asyncio.timeout(STALL_S):
            await self._wire.write(data)
