"""A proxy in front of a sidecar that damages, delays, holds back or cuts what passes through it.

It follows HTTP/2 frames and the gRPC messages in them, and the frames of the transport `tcp`, and
touches only what has at least `bulk_bytes`: the KV. Bytes and lengths stay as they are, so only a
digest can notice a flip.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Protocol

from splitwise_sidecar.transports.tcp import FRAME
from tests.support.manners import NOISE, Manner

_PREFACE_BYTES = 24
_FRAME_HEADER_BYTES = 9
_DATA = 0
_PREFIX_BYTES = 5  # of a gRPC message: a flag and four bytes of length


HOST = "127.0.0.2"
"""Where proxies listen, at the ports of those behind them: a peer's other ports are on its host."""


class _Bulk(Protocol):
    """Follows one direction of one connection and flips the last byte of what is bulky."""

    seen: bool

    def feed(self, data: bytearray) -> None:
        """Damages `data` in place."""


class _TcpBulk:
    """Frames of the transport `tcp`."""

    def __init__(self, bulk_bytes: int, take_flip: Callable[[], bool]) -> None:
        self.seen = False
        self._bulk_bytes = bulk_bytes
        self._take_flip = take_flip
        self._header = bytearray()
        self._length = self._left = 0
        self._layers = 0  # that are still to come, after the present one

    def feed(self, data: bytearray) -> None:
        """Damages `data` in place."""
        at = 0
        while at < len(data):
            if self._left == 0:
                taken = data[at : at + FRAME.size - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) == FRAME.size:
                    _, _, length, _, layers = FRAME.unpack(self._header)
                    self._length, self._layers = length, max(layers - 1, 0)
                    self._left = length if layers else 0
                    self._header.clear()
                    self.seen |= self._length >= self._bulk_bytes
                continue
            taken_bytes = min(self._left, len(data) - at)
            at += taken_bytes
            self._left -= taken_bytes
            if self._left > 0:
                continue
            if self._length >= self._bulk_bytes and self._take_flip():
                data[at - 1] ^= 1
            if self._layers:
                self._layers, self._left = self._layers - 1, self._length


class _GrpcBulk:
    """HTTP/2, and the messages of gRPC in it."""

    def __init__(self, bulk_bytes: int, take_flip: Callable[[], bool]) -> None:
        self.seen = False
        self._bulk_bytes = bulk_bytes
        self._take_flip = take_flip
        self._skip = _PREFACE_BYTES
        self._header = bytearray()
        self._frame_left = 0
        self._stream = -1  # -1: not a DATA frame
        self._prefixes: dict[int, bytearray] = {}
        self._left: dict[int, tuple[int, int]] = {}  # bytes to come, and the message's length

    def feed(self, data: bytearray) -> None:
        """Damages `data` in place."""
        at = min(self._skip, len(data))
        self._skip -= at
        while at < len(data):
            if self._frame_left == 0:
                at = self._read_header(data, at)
                continue
            end = min(len(data), at + self._frame_left)
            self._frame_left -= end - at
            if self._stream >= 0:
                self._messages(data, at, end)
            at = end

    def _read_header(self, data: bytearray, at: int) -> int:
        taken = data[at : at + _FRAME_HEADER_BYTES - len(self._header)]
        self._header += taken
        if len(self._header) == _FRAME_HEADER_BYTES:
            is_data = self._header[3] == _DATA
            self._frame_left = int.from_bytes(self._header[:3])
            self._stream = int.from_bytes(self._header[5:]) if is_data else -1
            self._header.clear()
        return at + len(taken)

    def _messages(self, data: bytearray, at: int, end: int) -> None:
        while at < end:
            left, length = self._left.get(self._stream, (0, 0))
            if left == 0:
                prefix = self._prefixes.setdefault(self._stream, bytearray())
                taken = data[at : min(end, at + _PREFIX_BYTES - len(prefix))]
                prefix += taken
                at += len(taken)
                if len(prefix) == _PREFIX_BYTES:
                    length = int.from_bytes(prefix[1:])
                    self._left[self._stream] = (length, length)
                    self.seen |= length >= self._bulk_bytes
                    prefix.clear()
                continue
            taken_bytes = min(left, end - at)
            at += taken_bytes
            self._left[self._stream] = (left - taken_bytes, length)
            if taken_bytes == left and length >= self._bulk_bytes and self._take_flip():
                data[at - 1] ^= 1


class FlippingProxy:
    """Listens at `address` for the sidecar at `target` (host:port), and at its ports for bytes."""

    def __init__(
        self,
        target: str,
        tcp_port: int | None = None,
        grpc_port: int | None = None,
        bulk_bytes: int = 1024,
    ) -> None:
        self.flips = 0  # so many bulk messages are still to be damaged
        self.damaged = 0
        self.connections = 0
        self.bulk_may_pass = asyncio.Event()  # cleared: connections stop at the first bulk message
        self.bulk_may_pass.set()
        self.may_pass = asyncio.Event()  # cleared: nothing passes, and nobody is told
        self.may_pass.set()
        self.bulk_held = asyncio.Event()  # set once something bulky waits
        self.answers_may_pass = asyncio.Event()  # cleared: control calls get no answers
        self.answers_may_pass.set()
        self.held = asyncio.Event()  # set once something waits for `may_pass`
        self.pause_s = 0.0  # before each piece, in either direction
        self.bytes_per_s = 0.0  # forward, on each connection; 0: as fast as it goes
        self._host, _, port = target.rpartition(":")
        self.address = f"{HOST}:{port}"
        self._kinds: dict[int, type[_GrpcBulk | _TcpBulk]] = {int(port): _GrpcBulk}
        if tcp_port is not None:
            self._kinds[tcp_port] = _TcpBulk
        if grpc_port is not None:
            self._kinds[grpc_port] = _GrpcBulk
        self._bulk_bytes = bulk_bytes
        self._servers: dict[int, asyncio.Server] = {}
        self._manners: dict[int, Manner] = {}  # of ports at which nobody gets through
        self._good = 0
        self._met: set[asyncio.Task[None]] = set()
        self._pipes: set[asyncio.Task[None]] = set()

    async def start(self) -> "FlippingProxy":
        """Begins to listen."""
        for port in self._kinds:
            await self._listen(port)
        return self

    async def _listen(self, port: int) -> None:
        serve = partial(self._serve, port)
        self._servers[port] = await asyncio.start_server(serve, HOST, port)

    async def stop(self) -> None:
        """Hangs up on everyone."""
        for server in self._servers.values():
            server.close()
        for task in (*self._pipes, *self._met):
            task.cancel()
        await asyncio.gather(*self._pipes, *self._met, return_exceptions=True)

    def cut(self) -> None:
        """Breaks every connection; new ones are let in."""
        for pipe in self._pipes:
            pipe.cancel()

    def release(self) -> None:
        """Lets everything pass, undamaged and undelayed."""
        self.flips, self.pause_s = 0, 0.0
        for gate in (self.bulk_may_pass, self.may_pass, self.answers_may_pass):
            gate.set()
        self.held.clear()
        self.bulk_held.clear()

    def mistreat(self, port: int, manner: Manner, good: int = 0) -> None:
        """All who connect there meet this, but the first `good` of them."""
        self._manners[port], self._good = manner, good
        if manner is Manner.REFUSES:
            self._servers.pop(port).close()

    async def heal(self) -> None:
        """Whoever connects gets through again, and nobody else is at the door."""
        self._manners.clear()
        for hanging in self._met:
            hanging.cancel()
        for port in self._kinds.keys() - self._servers.keys():
            await self._listen(port)

    def _take_flip(self) -> bool:
        if self.flips == 0:
            return False
        self.flips -= 1
        self.damaged += 1
        return True

    async def _serve(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if port in self._manners and not self._good:
            await self._meet(self._manners[port], writer)
            return
        self._good = max(0, self._good - 1)
        try:
            back_reader, back_writer = await asyncio.open_connection(self._host, port)
        except OSError:
            writer.close()
            return
        self.connections += 1
        bulk: _Bulk = self._kinds[port](self._bulk_bytes, self._take_flip)

        async def forward(data: bytearray) -> None:
            bulk.feed(data)
            if self.bytes_per_s:
                await asyncio.sleep(len(data) / self.bytes_per_s)
            if bulk.seen and not self.bulk_may_pass.is_set():
                self.bulk_held.set()
                await self.bulk_may_pass.wait()

        async def backward(data: bytearray) -> None:
            if not bulk.seen:
                await self.answers_may_pass.wait()

        for pipe in (
            self._pipe(reader, back_writer, forward),
            self._pipe(back_reader, writer, backward),
        ):
            task = asyncio.create_task(pipe)
            self._pipes.add(task)
            task.add_done_callback(self._pipes.discard)

    async def _meet(self, manner: Manner, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if manner is Manner.HANGS_UP:
            writer.close()
            return
        if manner is Manner.SAYS_NOISE:
            writer.write(NOISE)
        self._met.add(hanging := asyncio.create_task(_hang(writer)))
        hanging.add_done_callback(self._met.discard)

    async def _pipe(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[bytearray], Awaitable[None]],
    ) -> None:
        try:
            while data := bytearray(await reader.read(1 << 16)):
                await look(data)
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
                if not self.may_pass.is_set():
                    self.held.set()
                    await self.may_pass.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            return  # one side went without a word
        finally:
            writer.close()


async def _hang(writer: asyncio.StreamWriter) -> None:
    """Until it is cancelled."""
    try:
        await asyncio.Event().wait()
    finally:
        writer.close()
