"""How much a receiver has copied of each push, for its sender to read: a page that both map.

The sender takes the digest of what the receiver copies. At one pace, bytes come from memory once:
who comes second finds them in the cache that both processors share (decision 21). A counter is a
hint, and nothing rests on it.
"""

import ctypes
import os
import socket
from array import array
from collections.abc import Sequence
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap
from typing import Final, NamedTuple

from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.layout import address_of
from splitwise_sidecar.sealed import is_sealed, new_sealed, only_to_read

COUNTERS: Final = 512
"""Of a line; pushes beyond so many at once keep no pace."""

_NUMBER_BYTES: Final = 8
_BYTES: Final = COUNTERS * _NUMBER_BYTES


class Counters:
    """Numbered from 1. Mapped for as long as this is referred to."""

    def __init__(self, mapped: mmap) -> None:
        self._mapped = mapped
        self._first = address_of(memoryview(mapped))

    def address(self, number: int) -> int:
        """Where this counter is; 0 when there is none of this number."""
        return self._first + number * _NUMBER_BYTES if 0 < number < COUNTERS else 0

    def restart(self, number: int) -> int:
        """The same of one's own, from 0 on."""
        if address := self.address(number):
            ctypes.c_uint64.from_address(address).value = 0
        return address


def offer(line: socket.socket) -> Counters:
    """Makes counters, and hands the peer of a new line what reads them. Raises OSError."""
    fd = new_sealed("splitwise-copied", _BYTES)
    try:
        counters = Counters(mmap(fd, _BYTES, MAP_SHARED, PROT_READ | PROT_WRITE))
        to_read = only_to_read(fd)
    finally:
        os.close(fd)
    try:
        message = kv_pb2.ShmAnswer(counters=kv_pb2.ShmCounters())
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [to_read]))
        line.sendmsg([message.SerializeToString()], [rights])
    finally:
        os.close(to_read)
    return counters


def accept(fd: int) -> Counters | None:
    """A peer's; None for what is none, or could shrink when mapped. `fd` stays the caller's."""
    try:
        if not is_sealed(fd) or os.fstat(fd).st_size != _BYTES:
            return None
        return Counters(mmap(fd, _BYTES, MAP_SHARED, PROT_READ))
    except OSError:
        return None


class Counter(NamedTuple):
    """One of a peer's, for one push."""

    number: int
    address: int


NO_COUNTER: Final = Counter(0, 0)


class PeersCounters:
    """Those of a line's peer, once it has offered some, and which of them no push has."""

    def __init__(self) -> None:
        self._counters: Counters | None = None
        self._free = list(range(1, COUNTERS))

    def offered(self, fds: Sequence[int]) -> None:
        """The peer's message about them came, with these descriptors; only the first counts."""
        if fds and self._counters is None:
            self._counters = accept(fds[0])

    def take(self) -> Counter:
        """One until `give`, if there is any."""
        if self._counters is None or not self._free:
            return NO_COUNTER
        number = self._free.pop()
        return Counter(number, self._counters.address(number))

    def give(self, counter: Counter) -> None:
        """It is for another push: what is still copied of this one makes that one's pace worse."""
        if counter.number:
            self._free.append(counter.number)
