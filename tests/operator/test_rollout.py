"""The next step of a rollout: what serves goes on to serve, and what is new takes over."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_operator.rollout import PoolState, next_step

OLD, NEW, BROKEN = "old", "new", "broken"


def pools(
    *states: tuple[int, Mapping[str, int], Mapping[str, int]], roles: Sequence[str] = ()
) -> list[PoolState]:
    """Pools from (desired, ready, wanted); a prompt pool, then token pools."""
    named = roles or ["prompt", *["token"] * (len(states) - 1)]
    return [PoolState(f"p{n}", role, *state) for n, (role, state) in enumerate(zip(named, states))]


@pytest.mark.parametrize(
    ("given_pools", "expected"),
    [
        pytest.param(
            pools((1, {}, {}), (2, {}, {})),
            {("p0", NEW): 1, ("p1", NEW): 2},
            id="what is new all over starts whole",
        ),
        pytest.param(
            pools((2, {NEW: 2}, {NEW: 2}), (4, {NEW: 2}, {NEW: 2})),
            {("p0", NEW): 2, ("p1", NEW): 4},
            id="without another revision a pool is scaled at once",
        ),
        pytest.param(
            pools((1, {OLD: 1}, {OLD: 1}), (2, {OLD: 2}, {OLD: 2})),
            {("p0", NEW): 1, ("p1", NEW): 1, ("p0", OLD): 1, ("p1", OLD): 2},
            id="the new revision begins with one worker beside the old",
        ),
        pytest.param(
            pools((1, {OLD: 1, NEW: 1}, {OLD: 1, NEW: 1}), (2, {OLD: 2}, {OLD: 2, NEW: 1})),
            {("p0", NEW): 1, ("p1", NEW): 1, ("p0", OLD): 1, ("p1", OLD): 2},
            id="nothing old goes before both phases are served anew",
        ),
        pytest.param(
            pools((1, {OLD: 1, NEW: 1}, {OLD: 1, NEW: 1}), (2, {OLD: 2, NEW: 1}, {OLD: 2, NEW: 1})),
            {("p0", NEW): 1, ("p1", NEW): 2, ("p0", OLD): 1, ("p1", OLD): 1},
            id="the old keeps a worker of each pool until the new is whole",
        ),
        pytest.param(
            pools((1, {OLD: 1, NEW: 1}, {OLD: 1, NEW: 1}), (2, {OLD: 1, NEW: 2}, {OLD: 1, NEW: 2})),
            {("p0", NEW): 1, ("p1", NEW): 2, ("p0", OLD): 0, ("p1", OLD): 0},
            id="then it goes",
        ),
        pytest.param(
            pools((8, {OLD: 8, NEW: 1}, {OLD: 8, NEW: 2}), (1, {OLD: 1, NEW: 1}, {OLD: 1, NEW: 1})),
            {("p0", NEW): 3, ("p1", NEW): 1, ("p0", OLD): 7, ("p1", OLD): 1},
            id="a large pool runs ahead by a quarter",
        ),
        pytest.param(
            pools(
                (1, {OLD: 1}, {OLD: 1, BROKEN: 1}),
                (2, {OLD: 2}, {OLD: 2, BROKEN: 1}),
            ),
            {
                ("p0", NEW): 1,
                ("p1", NEW): 1,
                ("p0", OLD): 1,
                ("p1", OLD): 2,
                ("p0", BROKEN): 0,
                ("p1", BROKEN): 0,
            },
            id="a revision that never came up is given up at once",
        ),
        pytest.param(
            pools((1, {}, {OLD: 1}), (2, {}, {OLD: 2})),
            {("p0", NEW): 1, ("p1", NEW): 2, ("p0", OLD): 0, ("p1", OLD): 0},
            id="nor does one that serves nothing hold up the next",
        ),
        pytest.param(
            pools((1, {OLD: 1, NEW: 1}, {OLD: 1, NEW: 1}), (0, {}, {}), roles=["mixed", "token"]),
            {("p0", NEW): 1, ("p1", NEW): 0, ("p0", OLD): 0},
            id="a pool of no workers waits for none",
        ),
    ],
)
def test_next_step(given_pools: list[PoolState], expected: dict[tuple[str, str], int]) -> None:
    assert next_step(given_pools, NEW, routers_done=True) == expected


def test_old_workers_stay_while_an_old_router_needs_them() -> None:
    whole = pools((1, {OLD: 1, NEW: 1}, {OLD: 1, NEW: 1}), (1, {OLD: 1, NEW: 1}, {OLD: 1, NEW: 1}))
    step = next_step(whole, NEW, routers_done=False)
    assert (step["p0", OLD], step["p1", OLD]) == (1, 1)


def test_going_back_is_the_same_step_the_other_way_round() -> None:
    midway = pools((1, {OLD: 1, NEW: 1}, {OLD: 1, NEW: 1}), (4, {OLD: 2, NEW: 2}, {OLD: 2, NEW: 3}))
    step = next_step(midway, OLD, routers_done=True)
    assert step == {("p0", OLD): 1, ("p1", OLD): 3, ("p0", NEW): 1, ("p1", NEW): 2}


@pytest.mark.parametrize(
    ("other_ready", "left"),
    [
        pytest.param(0, 2, id="stays while nothing else serves its phase"),
        pytest.param(1, 0, id="goes when another pool does"),
    ],
)
def test_a_pool_that_the_spec_no_longer_has(other_ready: int, left: int) -> None:
    gone = PoolState("gone", "prompt", 0, {NEW: 2}, {NEW: 2}, is_listed=False)
    there = [
        PoolState("more", "prompt", 2, {NEW: other_ready}, {NEW: 2}),
        PoolState("token", "token", 1, {NEW: 1}, {NEW: 1}),
    ]
    assert next_step([gone, *there], NEW, routers_done=True)["gone", NEW] == left


SIZES = st.lists(st.integers(1, 9), min_size=2, max_size=4)


@given(sizes=SIZES, data=st.data())
def test_a_rollout_ends_and_never_serves_less_than_before(
    sizes: list[int], data: st.DataObject
) -> None:
    """Workers become ready in any order, one or several at a time, in one pool before another."""
    ready = [{OLD: size, NEW: 0} for size in sizes]
    wanted = [{OLD: size} for size in sizes]
    slow, until = data.draw(st.integers(0, len(sizes) - 1)), data.draw(st.integers(0, 5))
    for moment in range(40):
        states = pools(*((s, r, w) for s, r, w in zip(sizes, ready, wanted)))
        step = next_step(states, NEW, routers_done=True)
        for n, size in enumerate(sizes):
            wanted[n] = {rev: step[f"p{n}", rev] for rev in (OLD, NEW) if step.get((f"p{n}", rev))}
            ready[n][OLD] = min(ready[n][OLD], wanted[n].get(OLD, 0))
            assert sum(ready[n].values()) >= size
            assert sum(wanted[n].values()) <= size + max(1, -(-size // 4))
            is_slow = n == slow and moment < until
            starting = 0 if is_slow else wanted[n].get(NEW, 0) - ready[n][NEW]
            ready[n][NEW] += data.draw(st.integers(min(1, starting), starting))
        whole = [all(r[rev] for r in ready) for rev in (OLD, NEW)]
        assert any(whole), "one revision serves both phases at any time"
        if all(w == {NEW: size} for w, size in zip(wanted, sizes)):
            return
    raise AssertionError("it does not end")
