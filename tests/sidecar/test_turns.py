"""A thread inside a long call of a library offers its processor now and then."""

import os
import select
import signal
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from splitwise_sidecar.moves.library import LIBRARY
from splitwise_sidecar.moves.turns import taking_turns

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="there was no C compiler")

BYTES = bytes(1 << 28)


def long_call() -> int:
    """A tenth of a second and more, in C, without the interpreter lock."""
    return zlib.crc32(BYTES)


def switches() -> int:
    """How often this thread has lost its processor to another one that was ready."""
    text = Path("/proc/thread-self/status").read_text()
    return int(text.rpartition("nonvoluntary_ctxt_switches:")[2])


def beside_another(call: Callable[[], float]) -> float:
    """What the call returns in a thread that shares its processor with one that computes."""
    answers: list[float] = []
    over = threading.Event()
    processor = {min(os.sched_getaffinity(0))}

    def other() -> None:
        os.sched_setaffinity(0, processor)
        while not over.is_set():
            long_call()

    def run() -> None:
        os.sched_setaffinity(0, processor)
        answers.append(call())
        over.set()

    threads = [threading.Thread(target=target) for target in (other, run)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers[0]


def turn_s() -> float:
    """How long one long call computes, on average, until it loses its processor."""
    before, began = switches(), time.thread_time()
    with taking_turns():
        long_call()
    return (time.thread_time() - began) / max(switches() - before, 1)


def timers() -> int:
    """Of this process."""
    return Path("/proc/self/timers").read_text().count("signal:")


def test_others_have_their_turn_more_often_than_the_kernel_gives_it() -> None:
    """It takes a processor away at a tick, of which there are 250 a second where this matters."""
    assert beside_another(turn_s) < 0.0025


def test_what_waits_meanwhile_waits_to_its_end_and_no_timer_is_left() -> None:
    before = timers()
    began = time.monotonic()
    with taking_turns():
        assert timers() == before + 1
        assert select.select([], [], [], 0.05) == ([], [], [])
        time.sleep(0.05)
    assert time.monotonic() - began >= 0.1
    assert timers() == before


def test_a_signal_that_is_taken_already_is_left_alone() -> None:
    number = signal.SIGRTMIN + 9
    theirs = signal.signal(number, lambda *_: None)
    try:
        before = timers()
        with taking_turns():
            assert timers() == before
    finally:
        signal.signal(number, theirs or signal.SIG_DFL)
