"""The counters of a `shm` line: told by the receiver, believed by nobody."""

import ctypes
import fcntl
import os
import socket

import pytest

from splitwise_sidecar.transports.shm_counters import (
    COUNTERS,
    NO_COUNTER,
    PeersCounters,
    accept,
    offer,
)

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


def handed_over(line: socket.socket) -> int:
    """The descriptor that came over the line."""
    _, fds, _, _ = socket.recv_fds(line, 64, 1)
    return fds[0]


def test_what_one_side_counts_the_other_reads() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        own = offer(here)
        fd = handed_over(there)
        peers = accept(fd)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(fd, b"1", 0)
        os.close(fd)
    assert peers is not None
    for number in (1, COUNTERS - 1):
        ctypes.c_uint64.from_address(own.address(number)).value = 5 * number
        assert ctypes.c_uint64.from_address(peers.address(number)).value == 5 * number
    own.restart(1)
    assert ctypes.c_uint64.from_address(peers.address(1)).value == 0


def test_there_is_no_other_counter() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        own = offer(here)
        os.close(handed_over(there))
    for number in (0, COUNTERS, 2**32 - 1):
        assert own.address(number) == own.restart(number) == 0


@pytest.mark.parametrize(
    ("size", "seals"),
    [
        pytest.param(COUNTERS * 8, 0, id="memory that could shrink under the mapping"),
        pytest.param(COUNTERS * 8 - 1, SEALS, id="too little"),
        pytest.param(0, SEALS, id="nothing"),
    ],
)
def test_what_is_no_page_of_counters_is_not_mapped(size: int, seals: int) -> None:
    fd = os.memfd_create("none", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    assert accept(fd) is None
    os.close(fd)


def test_a_descriptor_of_something_else_is_no_page() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert accept(here.fileno()) is None


def test_each_push_has_a_counter_of_its_own_while_there_are_any() -> None:
    counters = PeersCounters()
    assert counters.take() == NO_COUNTER, "none was offered yet"
    counters.offered([])
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        offer(here)
        fd = handed_over(there)
        counters.offered([fd])
        os.close(fd)
    taken = [counters.take() for _ in range(COUNTERS - 1)]
    assert len({counter.address for counter in taken}) == COUNTERS - 1
    assert counters.take() == NO_COUNTER
    counters.give(NO_COUNTER)
    assert counters.take() == NO_COUNTER
    counters.give(taken[7])
    assert counters.take() == taken[7]
