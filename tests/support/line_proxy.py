"""A proxy in front of the `shm` socket of a sidecar, for datagrams and the descriptors with them.

Sidecars map each other's memory past it: what it holds back, changes or cuts is what they say.
"""

import array
import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Final

from splitwise_sidecar.transports.sockets import readable
from tests.support.manners import NOISE, Manner

DATAGRAM_BYTES: Final = 128 << 10

Look = Callable[[bytes], Iterable[bytes]]
"""What goes on in place of a datagram."""


class LineProxy:
    """Listens at `path`, in the place of a sidecar's socket, until `stop` puts that back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._behind = path.with_name(f"{path.name}-behind")
        self._manner: Manner | None = None  # then nobody gets through
        self.forward: Look = _as_it_is
        self.backward: Look = _as_it_is
        self.may_pass = asyncio.Event()  # cleared: nothing passes, and nobody is told
        self.may_pass.set()
        self.held = asyncio.Event()  # set once something waits for `may_pass`
        self.answers_may_pass = asyncio.Event()  # cleared: nothing comes back
        self.answers_may_pass.set()
        self.pause_s = 0.0  # before each datagram, in either direction
        self.connections = 0
        self._listener = _new_socket()
        self._pipes: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> "LineProxy":
        """Begins to listen."""
        self._path.rename(self._behind)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._accepting = asyncio.create_task(self._accept())
        return self

    def mistreat(self, manner: Manner) -> None:
        """All who connect meet this."""
        self._manner = manner
        if manner is Manner.REFUSES:
            self._path.rename(self._away)

    def heal(self) -> None:
        """Whoever connects gets through again, and nobody else is at the door."""
        self.cut()
        if self._manner is Manner.REFUSES:
            self._away.rename(self._path)
        self._manner = None

    @property
    def _away(self) -> Path:
        return self._path.with_name(f"{self._path.name}-away")

    async def stop(self) -> None:
        """Hangs up on everyone."""
        assert self._accepting is not None
        self._accepting.cancel()
        self.cut()
        await asyncio.gather(self._accepting, *self._pipes, return_exceptions=True)
        self._listener.close()
        self._put_back()

    def _put_back(self) -> None:
        if self._behind.exists():  # else its sidecar has ended
            self._behind.rename(self._path)

    def cut(self) -> None:
        """Breaks every connection; new ones are let in."""
        for pipe in self._pipes:
            pipe.cancel()

    def release(self) -> None:
        """Lets everything pass, unchanged and undelayed."""
        self.forward = self.backward = _as_it_is
        self.pause_s = 0.0
        self.may_pass.set()
        self.answers_may_pass.set()
        self.held.clear()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(self._listener)
            self.connections += 1
            if self._manner is not None:
                self._serve_with(_meet(self._manner, accepted))
                continue
            behind = _new_socket()
            try:
                behind.connect(str(self._behind))
            except OSError:  # nobody is there any more
                accepted.close()
                behind.close()
                continue
            self._serve_with(self._serve(accepted, behind))

    def _serve_with(self, serving: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(serving)
        self._pipes.add(task)
        task.add_done_callback(self._pipes.discard)

    async def _serve(self, front: socket.socket, behind: socket.socket) -> None:
        """Returns when one side has hung up; then both are."""
        with front, behind:
            pipes = [
                asyncio.create_task(self._pipe(front, behind, is_back=False)),
                asyncio.create_task(self._pipe(behind, front, is_back=True)),
            ]
            try:
                await asyncio.wait(pipes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pipe in pipes:
                    pipe.cancel()
                await asyncio.gather(*pipes, return_exceptions=True)

    async def _pipe(self, source: socket.socket, to: socket.socket, *, is_back: bool) -> None:
        while True:
            data, fds = await _receive(source)
            try:
                if not data:
                    return
                await self._delay(is_back)
                look = self.backward if is_back else self.forward
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
                for datagram in look(data):
                    to.sendmsg([datagram], rights if fds else [])
            finally:
                for fd in fds:
                    os.close(fd)

    async def _delay(self, is_back: bool) -> None:
        if self.pause_s:
            await asyncio.sleep(self.pause_s)
        if is_back:
            await self.answers_may_pass.wait()
        if not self.may_pass.is_set():
            self.held.set()
            await self.may_pass.wait()


async def _meet(manner: Manner, accepted: socket.socket) -> None:
    with accepted:
        if manner is Manner.SAYS_NOISE:
            accepted.send(NOISE)
        if manner is not Manner.HANGS_UP:
            await asyncio.Event().wait()


def _as_it_is(data: bytes) -> Iterable[bytes]:
    return (data,)


def _new_socket() -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    made.setblocking(False)
    return made


async def _receive(source: socket.socket) -> tuple[bytes, list[int]]:
    """The next datagram and its descriptors; none of either when the other side has hung up."""
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(source, DATAGRAM_BYTES, 1)
            return data, fds
        except BlockingIOError:
            await readable(source)
