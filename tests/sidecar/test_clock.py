"""Clocks that jump: leases and transfers count time that only goes on.

A request's deadline is a time of day, which the prompt side reads once, when it begins.
"""

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from splitwise_core.rpc import kv_pb2
from tests.sidecar.conftest import Pair

HOUR_S = 3600.0
JUMPS = pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S], ids=["on", "back"])


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The time of day becomes another one for all of the sidecar.

    Not for gRPC, which has a clock beside Python's that this cannot set.
    """

    def by(seconds: float) -> None:
        shifted = SimpleNamespace(**vars(time) | {"time": lambda: time.time() + seconds})
        for name, module in list(sys.modules.items()):
            if name.startswith("splitwise_sidecar.") and hasattr(module, "time"):
                monkeypatch.setattr(module, "time", shifted)

    return by


def in_ten_seconds() -> int:
    return int(time.time() * 1000) + 10_000


@JUMPS
async def test_a_jump_during_a_transfer_changes_nothing(
    pair: Pair, jump: Callable[[float], None], by_s: float
) -> None:
    pair.token.worker.open_lease("t", [1, 2], 20)
    pair.prompt.worker.fill([3, 4], 20, seed=1)
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [3, 4], 20, in_ten_seconds())
    await pair.until(lambda: pair.token.value("splitwise_kv_leases", state="reserved") == 1)
    jump(by_s)
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.OK
    assert pair.arrived([3, 4], [1, 2], 20)


@JUMPS
async def test_a_lease_ends_on_time_whatever_the_time_of_day_is(
    pair: Pair, jump: Callable[[float], None], by_s: float
) -> None:
    pair.token.worker.open_lease("t", [1], 5, lease_ms=200)
    pair.token.worker.open_lease("long", [2], 5, lease_ms=60_000)
    jump(by_s)
    ended = await pair.token.worker.expect("lease_ended")
    assert (ended.transfer_id, ended.outcome) == ("t", kv_pb2.EXPIRED)
    assert pair.token.worker.nothing_came()


async def test_a_prompt_side_whose_clock_is_ahead_ends_both_sides_at_once(
    pair: Pair, jump: Callable[[float], None]
) -> None:
    """It cannot know better than its clock: the request is computed elsewhere."""
    pair.token.worker.open_lease("t", [1], 5, lease_ms=300)
    deadline = in_ten_seconds()
    jump(HOUR_S)
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [1], 5, deadline)
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.EXPIRED
    assert (await pair.token.worker.expect("lease_ended")).outcome == kv_pb2.EXPIRED


async def test_a_prompt_side_whose_clock_is_behind_transfers_as_any_other(
    pair: Pair, jump: Callable[[float], None]
) -> None:
    deadline = in_ten_seconds()
    jump(-HOUR_S)
    pair.token.worker.open_lease("t", [1], 5)
    pair.prompt.worker.fill([1], 5, seed=1)
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [1], 5, deadline)
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    assert pair.arrived([1], [1], 5)
