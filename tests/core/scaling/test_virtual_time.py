"""The law with a fleet around it, in virtual time: hours of load in seconds.

The fleet of tests/support/virtual_fleet.py calls placement, batches and scaling as they are.
"""

import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from splitwise_core.policy.roles import Role
from splitwise_core.policy.scaling import Law, Pool, Ratio, Reason, decide, observe
from tests.support.virtual_fleet import LOOK_S, Change, PoolOf, VirtualFleet
from tests.support.virtual_worker import Machine

LAW = Law(Role.PROMPT, least=1, most=12, down_window_s=60.0)
SLOW = Machine(prompt_tokens_per_s=1000.0, step_base_s=0.1, step_slope_s=0.002, kv_tokens=32768)
"""A machine of which a few can be kept busy with few requests: the tests count requests."""

QUICK = Machine(prompt_tokens_per_s=5000.0, step_base_s=0.05, max_sequences=64)
"""One that many requests keep busy: where chance must not decide."""

Load = Iterator[tuple[float, int, int]]


def arrivals(
    rate: Callable[[float], float] | float,
    until_s: float,
    prompt: int = 500,
    output: int = 60,
    seed: int = 7,
) -> Load:
    """Requests at random times; `rate` a second, or as a function of the time."""
    draw, at_s = random.Random(seed), 0.0
    while True:
        at_s += draw.expovariate(rate if isinstance(rate, float) else rate(at_s))
        if at_s > until_s:
            return
        yield at_s, prompt, output


def fleet(load: Load, prompt: int = 1, token: int = 1, **changes: Any) -> VirtualFleet:
    """A prompt and a token pool; `changes` are the fleet's, the law's or the machine's."""
    law = replace(LAW, **{k: changes.pop(k) for k in list(changes) if hasattr(LAW, k)})
    machine = changes.pop("machine", SLOW)
    machine = replace(machine, **{k: changes.pop(k) for k in list(changes) if hasattr(SLOW, k)})
    nodes = changes.pop("nodes", 1000)
    pools = {
        "prompt": PoolOf(Role.PROMPT, law, prompt, machine, nodes),
        "token": PoolOf(Role.TOKEN, replace(law, role=Role.TOKEN), token, machine, nodes),
    }
    return VirtualFleet(pools, load, **changes)


def ups(done: VirtualFleet, pool: str) -> list[Change]:
    return [one for one in done.changes if one.pool == pool and one.after > one.before]


def downs(done: VirtualFleet, pool: str) -> list[Change]:
    return [one for one in done.changes if one.pool == pool and one.after < one.before]


def any_fleet(seed: int, until_s: float) -> VirtualFleet:
    """Some pools under some load that stays the same; a prompt takes 10 ms to 2 s."""
    draw = random.Random(seed)
    rate = draw.choice([0.3, 0.7, 1.5, 2.7, 4.0])
    prompt, output = draw.choice([50, 200, 500, 1000, 2000]), draw.choice([2, 20, 60, 200])
    machine = draw.choice([SLOW, QUICK])
    return _fleet(draw, arrivals(rate, until_s, prompt, output, seed), machine)


def slow_fleet(seed: int, until_s: float) -> VirtualFleet:
    """Some pools to which few prompts come: one in a second or in twenty, that takes 0.5 to 5 s."""
    draw = random.Random(seed)
    rate, prompt = 10 ** draw.uniform(-1.3, -0.1), round(10 ** draw.uniform(2.7, 3.7))
    return _fleet(draw, arrivals(rate, until_s, prompt, draw.choice([2, 20]), seed), SLOW)


def _fleet(draw: random.Random, load: Load, machine: Machine) -> VirtualFleet:
    sizes = draw.choice([(1, 1), (8, 8), (1, 8), (4, 2)])
    ratio = draw.choice([None, Ratio(0.5, 1.5), Ratio(1.0, 1.0)])
    return fleet(load, *sizes, machine=machine, ratio=ratio)


NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
ANY = range(400) if NIGHTLY else [*range(10), 19, 86, 89, 91]
FEW = range(5000, 5300) if NIGHTLY else [5003, 5017, 5061, 5077]
"""Runs take a second or two. Of those that are not nightly half have prompts of seconds."""


@pytest.mark.parametrize(
    ("made", "seed"),
    [
        *(pytest.param(any_fleet, one, id=f"load {one}") for one in ANY),
        *(pytest.param(slow_fleet, one, id=f"few long prompts {one}") for one in FEW),
    ],
)
def test_v1_a_constant_load_moves_a_pool_at_most_once_in_ten_windows(
    made: Callable[[int, float], VirtualFleet], seed: int
) -> None:
    settled_s, ten_s = 1200.0, 10 * LAW.down_window_s
    until_s = settled_s + 3 * ten_s
    done = made(seed, until_s).run(until_s)
    for pool in done.pools:
        late = [one.at_s for one in done.changes if one.pool == pool and one.at_s > settled_s]
        assert all(after - before >= ten_s for before, after in pairwise(late)), done.changes


@pytest.mark.parametrize(
    ("prompt", "output", "grows", "stays"),
    [
        pytest.param(1500, 20, "prompt", "token", id="long prompts grow the prompt pool"),
        pytest.param(50, 400, "token", "prompt", id="long answers grow the token pool"),
    ],
)
def test_v2_a_step_of_load_grows_the_pool_that_is_short_and_at_once(
    prompt: int, output: int, grows: str, stays: str
) -> None:
    load = arrivals(lambda s: 1.0 if s < 120 else 6.0, 300.0, prompt, output)
    done = fleet(load, machine=QUICK).run(300.0)
    assert not [one for one in ups(done, grows) if one.at_s < 120]
    assert ups(done, grows)[0].at_s <= 150, "a queue or a memory has to fill first"
    assert not ups(done, stays)


def test_v3_the_first_decision_comes_within_five_seconds_of_an_overload() -> None:
    load = arrivals(lambda s: 6.0 if s < 60 else 60.0, 70.0)
    done = fleet(load, prompt=2, token=2, least=2, machine=QUICK).run(70.0)
    assert not [one for one in done.changes if one.at_s <= 60]
    assert ups(done, "prompt")[0].at_s <= 65


def test_v4_prompts_that_wait_for_their_hand_over_grow_no_prompt_pool() -> None:
    load = arrivals(3.0, 300.0, output=10)
    done = fleet(load, machine=replace(QUICK, transfer_s=15.0)).run(300.0)
    assert max(request.done_s - request.first_s for request in done.requests) > 15
    assert not ups(done, "prompt")


def test_v5_after_a_peak_the_pools_come_down_slowly_and_nothing_is_lost() -> None:
    load = arrivals(lambda s: 1.0 if not 300 < s < 900 else 6.0, 3000.0)
    done = fleet(load).run(3600.0)
    assert all(request.done_s > 0 for request in done.requests)
    for pool in done.pools:
        peak = max(sizes[pool] for _, sizes in done.sizes)
        assert peak > 2
        assert done.pools[pool].desired <= 2
        times = [one.at_s for one in downs(done, pool)]
        assert all(after - before >= LAW.down_window_s for before, after in pairwise(times))


def test_v6_while_workers_start_no_more_are_asked_for_than_the_load_needs() -> None:
    load = arrivals(lambda s: 0.5 if s < 60 else 3.0, 1500.0)  # 1.5 workers' work, 2 at 80 %
    done = fleet(load, start_s=120.0, down_window_s=300.0).run(1500.0)
    assert max(sizes["prompt"] for _, sizes in done.sizes) <= 6


def test_v7_a_pool_without_nodes_asks_in_vain_only_for_so_long_and_can_shrink() -> None:
    load = arrivals(lambda s: 0.2 if s < 60 or s > 900 else 8.0, 1800.0)
    done = fleet(load, nodes=3).run(1800.0)
    given_up = [one for one in done.changes if one.reason is Reason.CAPACITY_MISSING]
    assert given_up
    assert all(one.after <= 3 for one in given_up)
    assert {name: pool.desired for name, pool in done.pools.items()} == {"prompt": 1, "token": 1}


def test_v8_an_idle_cluster_sleeps_as_a_whole_and_wakes_for_a_request() -> None:
    load = iter([(10.0, 500, 20), (400.0, 500, 20), (402.0, 500, 20)])
    done = fleet(load, least=0, idle_s=120.0).run(900.0)
    zeros = [set(sizes.values()) for _, sizes in done.sizes]
    assert {0} in zeros
    assert all(sizes == {0} or 0 not in sizes for sizes in zeros)
    assert all(request.done_s > 0 for request in done.requests), "none is refused meanwhile"
    woken = next(one for one in done.changes if one.reason is Reason.REQUESTS_WAITING)
    assert 400 <= woken.at_s <= 400 + LOOK_S


def test_v9_the_ratio_holds_at_every_moment() -> None:
    ratio = Ratio(0.5, 1.5)
    load = arrivals(lambda s: 1.0 if not 300 < s < 900 else 6.0, 2400.0, prompt=900, output=20)
    done = fleet(load, ratio=ratio).run(2400.0)
    assert max(sizes["prompt"] for _, sizes in done.sizes) > 2
    for _, sizes in done.sizes:
        assert 0.5 * sizes["token"] <= sizes["prompt"] <= 1.5 * sizes["token"]


@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(
    st.lists(
        st.tuples(st.floats(0, 120), st.integers(1, 3000), st.integers(1, 300)),
        min_size=1,
        max_size=60,
    ),
    st.booleans(),
)
def test_v10_every_request_is_placed_once_in_order_and_ends(
    requests: list[tuple[float, int, int]], has_mixed: bool
) -> None:
    """No double placement, no starvation, and no worker takes more than it has room for."""
    done = fleet(iter(sorted(requests)), max_sequences=8, kv_tokens=8192)
    if has_mixed:
        mixed = PoolOf(Role.MIXED, replace(LAW, role=Role.MIXED), 1, SLOW)
        done = VirtualFleet(done.pools | {"mixed": mixed}, iter(sorted(requests)))
    for until_s in range(0, 3000, 50):
        done.run(float(until_s))
        for worker in done.workers:
            assert worker.held <= worker.machine.max_sequences
            assert worker.free_tokens >= 0
        everywhere = [id(r) for w in done.workers for r in (*w.waiting, *w.computing)]
        assert len(everywhere) == len(set(everywhere))
    assert len(done.requests) == len(requests)
    assert all(request.at_s < request.first_s <= request.done_s for request in done.requests)


def test_v11_what_was_recorded_is_decided_the_same_again() -> None:
    """The law remembers nothing but its state: a run can be replayed from what pools said."""
    said: list[tuple[float, str, Any, Any]] = []
    load = arrivals(lambda s: 1.0 if not 300 < s < 600 else 6.0, 900.0)
    done = fleet(load, on_look=lambda *look: said.append(look)).run(900.0)
    states = {name: PoolOf(pool.role, pool.law, 0).state for name, pool in done.pools.items()}
    changes = []
    for index in range(0, len(said), 2):
        pools = {}
        for at_s, name, now, counts in said[index : index + 2]:
            law = done.pools[name].law
            assert law is not None
            pools[name] = Pool(counts, law.role, law, observe(states[name], law, counts, now, at_s))
        held = now.held.requests if now else 0
        for name, (made, state) in decide(pools, None, held, at_s).items():
            states[name] = state
            if made.replicas != pools[name].counts.desired:
                changes.append((at_s, name, made.replicas, made.reason))
    assert changes == [(one.at_s, one.pool, one.after, one.reason) for one in done.changes]


def test_v12_what_is_turned_away_counts_so_that_a_pool_is_soon_large_enough() -> None:
    load = arrivals(lambda s: 6.0 if s < 60 else 150.0, 240.0, output=2)
    done = fleet(load, prompt=2, token=8, least=2, most=40, machine=QUICK, most_queued=20)
    done.run(240.0)
    needed = round(150 * 500 / QUICK.prompt_tokens_per_s / 0.8)
    enough_s = min((one.at_s for one in ups(done, "prompt") if one.after >= needed), default=inf)
    assert enough_s - 60 < 3 * QUICK.start_s, "by what is served alone it were 186 s"
    assert 60 < done.refused[-1].at_s < enough_s + QUICK.start_s
    assert done.pools["prompt"].desired <= needed + 1, "nor is it counted twice"
