"""What the autoscaling law never does, whatever pools say (INV-17): 20 invariants.

Their fellows in virtual time are in test_virtual_time.py; those of placement and batches in
test_routing.py and test_batching.py.
"""

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from splitwise_core.policy.roles import Role
from splitwise_core.policy.scaling import (
    Counts,
    Held,
    Law,
    Pool,
    Ratio,
    Reading,
    Reason,
    Slo,
    State,
    WorkerLoad,
    decide,
    observe,
    reading,
)
from splitwise_core.policy.scaling.law import STEP_DOWN, STEP_UP
from splitwise_core.policy.scaling.signals import BOUNDS_S, bucket, quantile
from splitwise_core.policy.scaling.slo import prompt_workers
from tests.core.scaling.world import (
    COUNTS,
    LAWS,
    LOOK_S,
    READINGS,
    alone,
    apart,
    pools,
    prompts,
    tokens,
    watched,
    whole_window,
)

RATIOS = st.builds(lambda low, more: Ratio(low, low + more), st.floats(0.05, 3), st.floats(0, 3))
SLEEPY = st.builds(lambda law: replace(law, least=0), LAWS)
SOME = settings(max_examples=40)
"""For cases of whole clusters: each takes some milliseconds to draw."""
ALL = st.one_of(pools(), pools(SLEEPY))


@SOME
@given(ALL, st.one_of(st.none(), RATIOS), st.integers(0, 3))
def test_1_a_pool_is_within_its_bounds(
    made: dict[str, Pool], ratio: Ratio | None, held: int
) -> None:
    for name, one in apart(made, ratio, held).items():
        law = made[name].law
        assert law is not None
        assert law.least <= one.replicas <= law.most


@SOME
@given(ALL, st.one_of(st.none(), RATIOS), st.integers(0, 3))
def test_2_all_pools_are_at_zero_or_none_is(
    made: dict[str, Pool], ratio: Ratio | None, held: int
) -> None:
    zeros = {one.replicas == 0 for one in apart(made, ratio, held).values()}
    assert len(zeros) == 1


@SOME
@given(pools(SLEEPY), st.integers(1, 3))
def test_3_nothing_sleeps_while_a_request_waits_at_a_router(
    made: dict[str, Pool], held: int
) -> None:
    assert all(one.replicas > 0 for one in apart(made, held=held).values())


@given(LAWS, COUNTS, READINGS)
def test_4_a_step_up_is_capped(law: Law, counts: Counts, said: Reading) -> None:
    counts = within(law, counts)
    after = alone(law, counts, said).replicas
    assert after <= counts.desired + max(counts.desired, STEP_UP)


@given(LAWS, st.integers(2, 90))
def test_5_a_step_down_is_capped(law: Law, workers: int) -> None:
    counts = within(law, Counts(workers, workers))
    idle = prompts(workers) if law.role is Role.PROMPT else tokens(workers, 0.0)
    made = alone(law, counts, idle, whole_window(law))
    assert made.replicas < counts.desired or counts.desired == law.least
    assert made.replicas >= counts.desired - max(1, counts.desired // STEP_DOWN)


@given(LAWS, COUNTS, st.one_of(st.none(), READINGS), st.floats(10.1, 1e6))
def test_6_what_was_said_long_ago_moves_nothing(
    law: Law, counts: Counts, said: Reading | None, age_s: float
) -> None:
    counts = replace(within(law, counts), warming=1000)
    state = watched(law, counts, said, whole_window(law), to_s=-age_s)
    (made,) = apart({"pool": Pool(counts, law.role, law, state)}).values()
    assert (made.replicas, made.reason) == (counts.desired, Reason.SIGNAL_STALE)


@given(LAWS, COUNTS, READINGS)
def test_7_a_pool_does_not_shrink_while_a_worker_says_nothing(
    law: Law, counts: Counts, said: Reading
) -> None:
    counts = replace(within(law, counts), warming=1000)
    made = alone(law, counts, replace(said, missing=1), whole_window(law))
    assert made.replicas >= counts.desired


@given(
    LAWS,
    COUNTS,
    READINGS,
    st.integers(1, 10**6),
    st.sampled_from(["queue", "kv", "arrivals", "refusals"]),
)
def test_8_more_load_never_means_fewer_workers(
    law: Law, counts: Counts, calm: Reading, more: int, of: str
) -> None:
    counts, looks = within(law, counts), whole_window(law)
    grown = {
        "queue": {"queued_tokens": calm.queued_tokens + more},
        "kv": {"kv_taken": calm.kv_taken + more},
        "arrivals": {"arrived_tokens": calm.arrived_tokens + more},
        "refusals": {"held": replace(calm.held, refused_tokens=calm.held.refused_tokens + more)},
    }[of]
    busy = replace(calm, **grown)
    for seen in (2, looks):
        assert alone(law, counts, calm, seen).replicas <= alone(law, counts, busy, seen).replicas


@SOME
@given(pools(), RATIOS)
def test_9_the_ratio_holds_wherever_the_bounds_allow_it(
    made: dict[str, Pool], ratio: Ratio
) -> None:
    after = {name: one.replicas for name, one in apart(made, ratio).items()}
    sides = [made["PROMPT"].law, made["TOKEN"].law]
    assert all(sides)
    low, high = ratio.least * (1 - 1e-9), ratio.most * (1 + 1e-9)
    possible = any(
        low * t <= p <= high * t
        for t in range(sides[1].least, sides[1].most + 1)  # type: ignore[union-attr]
        for p in range(sides[0].least, sides[0].most + 1)  # type: ignore[union-attr]
    )
    holds = low * after["TOKEN"] <= after["PROMPT"] <= high * after["TOKEN"]
    assert holds or not possible


@SOME
@given(pools(), RATIOS)
def test_10_the_ratio_takes_no_worker_that_a_pool_wishes_unless_its_bounds_say_so(
    made: dict[str, Pool], ratio: Ratio
) -> None:
    made = {
        name: replace(pool, law=replace(pool.law, most=2000))
        for name, pool in made.items()
        if pool.law is not None
    }
    assume(ratio.most - ratio.least >= 0.5)
    wished = {name: one.replicas for name, one in apart(made).items()}
    after = {name: one.replicas for name, one in apart(made, ratio).items()}
    assert all(after[name] >= wished[name] for name in made)


@given(LAWS, READINGS, st.integers(2, 60))
def test_11_no_pool_shrinks_while_one_of_the_other_phase_is_short(
    law: Law, said: Reading, workers: int
) -> None:
    own = replace(law, role=Role.PROMPT, least=1, most=100)
    counts, looks = Counts(workers, workers), whole_window(law)
    short = Law(Role.TOKEN, 1, 100)
    made = apart(
        {
            "own": Pool(counts, Role.PROMPT, own, watched(own, counts, said, looks)),
            "short": Pool(counts, Role.TOKEN, short, watched(short, counts, tokens(workers, 0.9))),
        }
    )
    assert made["own"].replicas >= workers or made["own"].is_short


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(LAWS, st.integers(2, 80), st.floats(0, 1.2), st.floats(0, 1), st.floats(0, 1.5))
def test_12_a_step_down_is_not_what_the_same_load_undoes(
    law: Law, workers: int, offered: float, share: float, backlog_s: float
) -> None:
    said = replace(
        prompts(workers, offered * workers, backlog_s),
        kv_taken=round(share * workers * 65536),
        taken=round(share * workers * 30),
    )
    counts = Counts(workers, workers)
    law = replace(law, most=1000, least=1)
    made = alone(law, counts, said, whole_window(law))
    assume(made.reason is Reason.LOAD_LOW)
    part = made.replicas / said.workers
    fewer = replace(
        said,
        workers=made.replicas,
        kv_capacity=max(1, ceil(said.kv_capacity * part)),
        max_sequences=max(1, ceil(said.max_sequences * part)),
    )
    after = alone(law, Counts(made.replicas, made.replicas), fewer)
    assert after.replicas == made.replicas


@given(LAWS, READINGS)
def test_13_the_same_load_asks_for_no_more_while_workers_start(law: Law, said: Reading) -> None:
    law = replace(law, most=200, down_window_s=1e6, pending_s=1e6)
    counts = Counts(said.workers, said.workers)
    state, sizes = watched(law, counts, said), []
    for look in range(10):
        at_s = look * law.up_window_s
        state = observe(state, law, counts, replace(said, at_s=at_s), at_s)
        made, state = decide({"p": Pool(counts, law.role, law, state)}, None, 0, at_s)["p"]
        counts = replace(counts, desired=made.replicas, warming=made.replicas - counts.ready)
        sizes.append(made.replicas)
    assert sizes[-1] == sizes[-2], "it asks for what the load needs, and then no more"


@given(LAWS, READINGS, st.floats(0.1, 9.9))
def test_14_two_steps_up_are_a_window_apart(law: Law, said: Reading, after_s: float) -> None:
    counts = Counts(law.least, law.least)
    state = watched(law, counts, said)
    made, state = decide({"p": Pool(counts, law.role, law, state)}, None, 0, 0.0)["p"]
    assume(made.replicas > counts.desired)
    more = Counts(made.replicas, made.replicas)
    state = observe(state, law, more, replace(said, at_s=after_s), after_s)
    again, _ = decide({"p": Pool(more, law.role, law, state)}, None, 0, after_s)["p"]
    assert again.replicas == made.replicas


@given(LAWS, READINGS, st.floats(0, 19))
def test_15_a_step_down_is_a_window_from_any_other_change(
    law: Law, said: Reading, ago_s: float
) -> None:
    counts = Counts(law.most, law.most)
    state = replace(watched(law, counts, said, whole_window(law)), changed_s=-ago_s)
    (made,) = apart({"p": Pool(counts, law.role, law, state)}).values()
    assert made.replicas >= counts.desired


@SOME
@given(LAWS, COUNTS, READINGS)
def test_16_workers_that_get_no_node_are_given_up_in_time(
    law: Law, counts: Counts, said: Reading
) -> None:
    counts = within(law, counts)
    there = counts.ready + counts.warming
    assume(there < counts.desired)
    state = watched(law, counts, said, whole_window(law))
    (made,) = apart({"p": Pool(counts, law.role, law, state)}).values()
    assert made.is_short
    assert made.replicas == max(there, law.least)


@SOME
@given(pools(), st.one_of(st.none(), RATIOS))
def test_17_the_same_pools_get_the_same_decision(
    made: dict[str, Pool], ratio: Ratio | None
) -> None:
    assert decide(made, ratio, 0, 0.0) == decide(dict(reversed(made.items())), ratio, 0, 0.0)


@SOME
@given(pools(), RATIOS)
def test_18_a_pool_of_another_owner_is_never_decided_on(
    made: dict[str, Pool], ratio: Ratio
) -> None:
    made["TOKEN"] = replace(made["TOKEN"], law=None)
    assert "TOKEN" not in apart(made, ratio)


@given(
    st.floats(0.01, 50),
    st.floats(0.001, 5),
    st.floats(0.001, 20),
    st.floats(0.001, 20),
    st.floats(0.5, 0.99),
)
def test_19_a_tighter_target_never_takes_fewer_workers(
    offered: float, prompt_s: float, one_s: float, other_s: float, percentile: float
) -> None:
    tight, wide = (
        prompt_workers(offered, prompt_s, ttft_s, percentile, 1000)
        for ttft_s in sorted((one_s, other_s))
    )
    assert tight is None or (wide is not None and tight >= wide)
    assert tight is None or tight > offered, "those that are chosen work off what comes"


LOADS = st.builds(
    WorkerLoad,
    life=st.integers(1, 3),
    kv_capacity=st.just(1000),
    max_sequences=st.just(64),
    queued_tokens=st.integers(0, 1000),
    prompt_tokens_total=st.integers(0, 10**6),
    prompt_s_total=st.floats(0, 1e4),
)


@given(
    st.dictionaries(st.sampled_from("abc"), LOADS), st.dictionaries(st.sampled_from("abc"), LOADS)
)
def test_20_no_restart_makes_a_pool_have_done_less_than_nothing(
    first: dict[str, WorkerLoad], then: dict[str, WorkerLoad]
) -> None:
    then = {
        name: replace(
            load,
            prompt_tokens_total=load.prompt_tokens_total + first[name].prompt_tokens_total,
            prompt_s_total=load.prompt_s_total + first[name].prompt_s_total,
        )
        if name in first and first[name].life == load.life
        else load
        for name, load in then.items()
    }
    _, memory = reading({}, first, 0, Held(), 0.0, -LOOK_S)
    now, memory = reading(memory, then, 0, Held(), LOOK_S, 0.0)
    assert now.arrived_tokens >= 0
    assert now.prompt_tokens >= 0
    assert now.prompt_s >= 0
    assert memory.keys() == then.keys()
    assert now.queued_tokens == sum(load.queued_tokens for load in then.values())


@given(st.lists(st.floats(0, 60), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_the_value_that_it_estimates(
    seconds: list[float], part: float
) -> None:
    counts = [0] * (len(BOUNDS_S) + 1)
    for value in seconds:
        counts[bucket(value)] += 1
    exact = sorted(seconds)[max(0, ceil(part * len(seconds) - 1e-9) - 1)]
    index = bucket(exact)
    low = BOUNDS_S[index - 1] if index else 0.0
    assert low <= quantile(counts, part) <= BOUNDS_S[min(index, len(BOUNDS_S) - 1)]


def test_slo_mode_keeps_the_bounds_and_caps_too() -> None:
    law = Law(Role.PROMPT, 1, 8, slo=Slo(0.11, 0.02))
    assert alone(law, Counts(1, 1), prompts(1, 40.0, 9.0)).replicas == 5
    assert alone(law, Counts(7, 7), prompts(7, 40.0, 9.0)).replicas == 8


@pytest.mark.parametrize("role", list(Role))
def test_a_pool_that_never_said_anything_is_left_as_it_is(role: Role) -> None:
    counts = Counts(3, 3)
    law = Law(role, 1, 9)
    (made,) = apart({"p": Pool(counts, role, law, State())}).values()
    assert (made.replicas, made.reason) == (3, Reason.SIGNAL_STALE)


def within(law: Law, counts: Counts) -> Counts:
    """The counts with as many desired as the law allows."""
    return replace(counts, desired=min(max(counts.desired, law.least), law.most))
