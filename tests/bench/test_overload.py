"""What an overload is said to have done to memory, and when it is over."""

import mmap
import os
from collections.abc import Callable
from typing import Any

import pytest

from bench.cluster import memory
from bench.cluster.overload import RECOVERED_SLICES, recovery_s
from bench.cluster.setups import Running

MIB = 1 << 20


def timeline(*good: int, sent: int = 10) -> dict[str, Any]:
    return {"slice_s": 1.0, "slices": [{"sent": sent, "good": one} for one in good]}


@pytest.mark.parametrize(
    ("good", "expected"),
    [
        pytest.param([8] * 20, 0.0, id="at once"),
        pytest.param([7, 9, 6, 9, 8] + [0] * 15, 0.0, id="at once, and chance is none of it"),
        pytest.param([0] * 6 + [8] * 14, 6.0, id="when five seconds are as good as they were"),
        pytest.param([2] * 20, None, id="not within the time that was watched"),
        pytest.param([8] * (RECOVERED_SLICES - 1), None, id="too short a time to tell"),
    ],
)
def test_a_cluster_has_recovered(good: list[int], expected: float | None) -> None:
    assert recovery_s(0.8, timeline(*good)) == expected


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        pytest.param(lambda look: 100 * MIB, True, id="what stays is flat"),
        pytest.param(lambda look: min(look, 9) * MIB, True, id="what fills up at first is flat"),
        pytest.param(lambda look: (100 + look % 10) * MIB, True, id="what comes and goes is flat"),
        pytest.param(lambda look: (100 + look / 8) * MIB, False, id="what grows slowly is not"),
    ],
)
def test_memory(course: Callable[[int], int], expected: bool) -> None:
    told = memory.told({"router": [round(course(look)) for look in range(40)]})
    assert told["router"]["is_flat"] is expected


def test_of_a_few_looks_nothing_is_told_of_memory() -> None:
    assert memory.told({"router": [MIB] * 3}) == {}


def test_memory_is_counted_by_component_and_what_processes_share_by_itself() -> None:
    container = {"name": "worker", "pid": os.getpid()}
    cluster = Running("", {"pods": [{"role": "token", "containers": [container]}]})
    before = memory.look(cluster)
    own, shared = bytearray(os.urandom(MIB)) * 64, mmap.mmap(-1, 32 * MIB)
    shared.write(b"x" * (32 * MIB))
    after = memory.look(cluster)
    assert after["token worker"] - before["token worker"] == pytest.approx(len(own), rel=0.1)
    assert after[memory.KV_CACHES] - before[memory.KV_CACHES] == pytest.approx(32 * MIB, rel=0.1)
    assert after[memory.ALL] == after["token worker"] + after[memory.KV_CACHES]
