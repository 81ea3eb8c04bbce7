"""The autoscaling law by example: what each pool does with what it is told."""

from dataclasses import replace

import pytest

from splitwise_core.policy.roles import Role
from splitwise_core.policy.scaling import (
    Counts,
    Decision,
    Held,
    Law,
    Pool,
    Ratio,
    Reading,
    Reason,
    Slo,
    State,
    observe,
)
from tests.core.scaling.world import (
    MIXED,
    PROMPT,
    TOKEN,
    alone,
    apart,
    prompts,
    tokens,
    watched,
    whole_window,
)


@pytest.mark.parametrize(
    ("law", "ready", "said", "expected"),
    [
        pytest.param(PROMPT, 4, prompts(4, 2.8, 0.5), (4, Reason.IN_BAND), id="inside the band"),
        pytest.param(
            PROMPT, 4, prompts(4, 4.8, 2.0), (7, Reason.BACKLOG_HIGH), id="to what arrives at 80 %"
        ),
        pytest.param(
            PROMPT,
            4,
            prompts(4, 4.0, 2.0, held=Held(placed_tokens=1000, refused_tokens=500)),
            (8, Reason.BACKLOG_HIGH),
            id="what is turned away has come, too",
        ),
        pytest.param(
            PROMPT,
            4,
            prompts(4, 2.8, 0.5, held=Held(placed_tokens=1000, refused_tokens=500)),
            (4, Reason.IN_BAND),
            id="but a pool with room is not what it lacks",
        ),
        pytest.param(
            PROMPT, 4, prompts(4, 2.0, 2.0), (4, Reason.IN_BAND), id="a burst that works itself off"
        ),
        pytest.param(
            PROMPT, 6, prompts(6, 50.0, 9.0), (12, Reason.BACKLOG_HIGH), id="a step at most doubles"
        ),
        pytest.param(
            PROMPT, 1, prompts(1, 50.0, 9.0), (5, Reason.BACKLOG_HIGH), id="or adds four workers"
        ),
        pytest.param(TOKEN, 4, tokens(4, 0.7), (4, Reason.IN_BAND), id="memory enough"),
        pytest.param(TOKEN, 4, tokens(4, 0.9), (5, Reason.KV_HIGH), id="memory short"),
        pytest.param(
            TOKEN,
            4,
            tokens(4, 0.85, held=Held(10, 0, 2 * 65536)),
            (7, Reason.KV_HIGH),
            id="what waits at the routers counts where it is short",
        ),
        pytest.param(
            TOKEN,
            4,
            tokens(4, 0.9, held=Held(placed_tokens=1000, refused_tokens=500)),
            (7, Reason.KV_HIGH),
            id="so does what they turn away",
        ),
        pytest.param(
            TOKEN,
            4,
            tokens(4, 0.5, held=Held(10, 0, 10 * 65536, 0.0, 1, 1)),
            (4, Reason.IN_BAND),
            id="and not where it is not",
        ),
        pytest.param(
            TOKEN,
            4,
            tokens(4, 0.5, kv_reserved=round(1.8 * 65536)),
            (5, Reason.KV_HIGH),
            id="what is reserved counts",
        ),
        pytest.param(
            TOKEN,
            4,
            tokens(4, 0.5, kv_reserved=round(1.8 * 65536), held=Held(early=0.9)),
            (4, Reason.IN_BAND),
            id="but for sequences whose prompts wait",
        ),
        pytest.param(
            TOKEN,
            2,
            tokens(2, 0.1, taken=120),
            (3, Reason.KV_HIGH),
            id="places run out before memory",
        ),
        pytest.param(
            MIXED, 4, prompts(4, 4.8, 2.0), (7, Reason.BACKLOG_HIGH), id="mixed, for its prompts"
        ),
        pytest.param(MIXED, 4, tokens(4, 0.9), (5, Reason.KV_HIGH), id="mixed, for its tokens"),
        pytest.param(PROMPT, 4, None, (4, Reason.SIGNAL_STALE), id="silence is no idleness"),
    ],
)
def test_a_pool(law: Law, ready: int, said: Reading | None, expected: tuple[int, Reason]) -> None:
    made = alone(law, Counts(ready, ready), said)
    assert (made.replicas, made.reason) == expected


@pytest.mark.parametrize(
    ("desired", "said", "expected"),
    [
        pytest.param(4, prompts(4), (3, Reason.LOAD_LOW), id="an idle pool gives up one worker"),
        pytest.param(12, prompts(12), (9, Reason.LOAD_LOW), id="a large one a quarter"),
        pytest.param(1, prompts(1), (1, Reason.IN_BAND), id="the last one stays"),
        pytest.param(
            4, prompts(4, 1.2), (3, Reason.LOAD_LOW), id="those that stay are busy for 40 %"
        ),
        pytest.param(4, prompts(4, 1.4), (4, Reason.IN_BAND), id="they would be for 47 %"),
        pytest.param(
            4, prompts(4, missing=1), (4, Reason.SIGNAL_MISSING), id="one of them says nothing"
        ),
    ],
)
def test_a_pool_shrinks_when_fewer_would_have_done_for_a_window(
    desired: int, said: Reading, expected: tuple[int, Reason]
) -> None:
    counts = Counts(desired, desired)
    made = alone(PROMPT, counts, said, whole_window(PROMPT))
    assert (made.replicas, made.reason) == expected
    assert alone(PROMPT, counts, said, 2).replicas == desired, "not before the window is over"


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        pytest.param(1.7, 3, id="those that stay are busy for 57 %"),
        pytest.param(1.9, 4, id="they would be for 63 %"),
    ],
)
def test_ten_windows_tell_more_than_one(offered: float, expected: int) -> None:
    law = replace(PROMPT, down_window_s=30.0)
    made = alone(law, Counts(4, 4), prompts(4, offered), 10 * whole_window(law))
    assert made.replicas == expected


def test_one_busy_moment_in_the_window_keeps_the_workers() -> None:
    counts = Counts(4, 4)
    state = watched(PROMPT, counts, prompts(4, 3.0, 1.0), looks=1, to_s=-280.0)
    for at_s in range(-278, 1, 2):
        state = observe(state, PROMPT, counts, prompts(4, at_s=float(at_s)), float(at_s))
    assert apart({"pool": Pool(counts, Role.PROMPT, PROMPT, state)})["pool"].replicas == 4


def test_a_step_up_waits_for_the_workers_that_start() -> None:
    said = prompts(4, 4.8, 1.6)
    made = alone(PROMPT, Counts(7, 4, warming=3), said)
    assert (made.replicas, made.reason) == (7, Reason.STARTING)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        pytest.param(Counts(9, 4, 2), 6, id="those without a node are given up"),
        pytest.param(Counts(1, 0, 0), 1, id="never below the least"),
    ],
)
def test_workers_without_a_node_hold_nothing_up_for_ever(counts: Counts, expected: int) -> None:
    said = prompts(4, 9.0, 3.0) if counts.ready else None
    state = watched(PROMPT, counts, said, looks=151)
    made = apart({"pool": Pool(counts, Role.PROMPT, PROMPT, state)})["pool"]
    assert (made.replicas, made.reason, made.is_short) == (expected, Reason.CAPACITY_MISSING, True)


def test_a_pool_keeps_its_workers_while_the_other_one_is_short() -> None:
    counts, window = Counts(4, 4), whole_window(PROMPT)
    idle = Pool(counts, Role.PROMPT, PROMPT, watched(PROMPT, counts, prompts(4), window))
    short = Pool(counts, Role.TOKEN, TOKEN, watched(TOKEN, counts, tokens(4, 0.95), window))
    made = apart({"prompt": idle, "token": short})
    assert (made["prompt"].replicas, made["prompt"].reason) == (4, Reason.OTHER_POOL_SATURATED)
    assert made["token"].replicas > 4


@pytest.mark.parametrize(
    ("prompt", "token", "ratio", "expected"),
    [
        pytest.param(2, 4, Ratio(0.5, 1.0), (2, 4), id="in the clamp nothing moves"),
        pytest.param(1, 4, Ratio(0.5, 1.0), (2, 4), id="what is too few is raised"),
        pytest.param(6, 4, Ratio(0.5, 1.0), (6, 6), id="before what is too many is lowered"),
        pytest.param(18, 4, Ratio(0.5, 0.5), (10, 20), id="unless the bounds are in the way"),
    ],
)
def test_the_ratio(prompt: int, token: int, ratio: Ratio, expected: tuple[int, int]) -> None:
    made = apart({"prompt": quiet(PROMPT, prompt), "token": quiet(TOKEN, token)}, ratio)
    assert (made["prompt"].replicas, made["token"].replicas) == expected


def test_a_pool_of_another_owner_counts_in_the_ratio_and_is_left_alone() -> None:
    other = Pool(Counts(8, 8), Role.TOKEN, None)
    made = apart({"prompt": quiet(PROMPT, 2), "token": other}, Ratio(0.5, 1.0))
    assert {name: one.replicas for name, one in made.items()} == {"prompt": 4}


def quiet(law: Law, workers: int) -> Pool:
    """A pool in whose load nothing asks for more or fewer."""
    counts = Counts(workers, workers)
    said = tokens(workers, 0.7) if law.role is Role.TOKEN else prompts(workers, 0.7 * workers)
    return Pool(counts, law.role, law, watched(law, counts, said))


class TestZero:
    prompt, token = replace(PROMPT, least=0), replace(TOKEN, least=0)

    def after(self, looks: int, prompt: Reading, token: Reading) -> dict[str, Decision]:
        counts = Counts(1, 1)
        return apart(
            {
                "prompt": Pool(
                    counts, Role.PROMPT, self.prompt, watched(self.prompt, counts, prompt, looks)
                ),
                "token": Pool(
                    counts, Role.TOKEN, self.token, watched(self.token, counts, token, looks)
                ),
            }
        )

    def test_all_pools_sleep_when_nobody_has_asked_for_long(self) -> None:
        made = self.after(302, prompts(1), tokens(1, 0.0))
        assert {one.replicas for one in made.values()} == {0}
        assert {one.reason for one in made.values()} == {Reason.IDLE}

    def test_workers_that_took_long_to_load_are_not_put_to_sleep_when_they_are_ready(self) -> None:
        counts, pools = Counts(1, 1), {}
        for law, ready in ((self.prompt, prompts(1)), (self.token, tokens(1, 0.0))):
            state = watched(law, counts, None, 302, to_s=-2.0)
            state = observe(state, law, counts, replace(ready, at_s=0.0), 0.0)
            pools[law.role.name] = Pool(counts, law.role, law, state)
        assert {one.replicas for one in apart(pools).values()} == {1}

    def test_none_sleeps_while_one_works(self) -> None:
        made = self.after(302, prompts(1), tokens(1, 0.1))
        assert {one.replicas for one in made.values()} == {1}

    @pytest.mark.parametrize(("held", "expected"), [(0, 0), (1, 1)])
    def test_they_wake_together_when_a_request_waits(self, held: int, expected: int) -> None:
        asleep = {
            "prompt": Pool(Counts(0, 0), Role.PROMPT, self.prompt),
            "token": Pool(Counts(0, 0), Role.TOKEN, self.token),
        }
        assert {one.replicas for one in apart(asleep, held=held).values()} == {expected}

    def test_one_pool_alone_is_never_at_zero(self) -> None:
        pools = {
            "prompt": Pool(Counts(0, 0), Role.PROMPT, self.prompt),
            "token": quiet(self.token, 2),
        }
        made = apart(pools)
        assert {name: one.replicas for name, one in made.items()} == {"prompt": 1, "token": 2}
        assert made["prompt"].reason is Reason.OUT_OF_BOUNDS


class TestTargets:
    """SLO mode. A worker here computes a prompt in 0.1 s."""

    def law(self, ttft_s: float) -> Law:
        return replace(PROMPT, slo=Slo(ttft_s, tbt_s=0.05))

    def test_a_tighter_target_takes_more_workers(self) -> None:
        said = prompts(4, 3.5)
        wide, tight = (alone(self.law(s), Counts(4, 4), said).replicas for s in (5.0, 0.11))
        assert (wide, tight) == (4, 7)

    def test_a_target_shorter_than_a_prompt_grows_nothing_and_says_so(self) -> None:
        made = alone(self.law(0.05), Counts(4, 4), prompts(4, 2.8))
        assert (made.replicas, made.reason) == (4, Reason.SLO_INFEASIBLE)

    def test_what_is_measured_to_come_late_adds_workers(self) -> None:
        late = tuple(30 if index == 10 else 0 for index in range(18))  # 0.5 to 1 s
        made = alone(self.law(0.5), Counts(5, 5), prompts(5, 3.0, ttft_counts=late))
        assert made.reason is Reason.TTFT_MISSED
        assert made.replicas > 5

    def test_a_step_is_kept_short_by_more_workers(self) -> None:
        law = replace(TOKEN, slo=Slo(1.0, tbt_s=0.03))
        state = watched(law, Counts(2, 2), None, 1, to_s=-20.0)
        for index, batch in enumerate([10, 20, 30, 40]):  # 10 ms, and 0.5 ms for each
            at_s = index * 2.0 - 6.0
            said = tokens(
                2,
                0.3,
                at_s,
                taken=2 * batch,
                steps=100,
                step_tokens=100 * batch,
                step_s=100 * (0.01 + 0.0005 * batch),
            )
            state = observe(state, law, Counts(2, 2), said, at_s)
        made = apart({"pool": Pool(Counts(2, 2), Role.TOKEN, law, state)})["pool"]
        assert (made.replicas, made.reason) == (2, Reason.IN_BAND), "80 sequences in 30 ms: two"
        said = replace(said, at_s=0.0, taken=90)
        state = observe(state, law, Counts(2, 2), said, 0.0)
        made = apart({"pool": Pool(Counts(2, 2), Role.TOKEN, law, state)})["pool"]
        assert (made.replicas, made.reason) == (3, Reason.STEP_SLOW)


def test_one_sequence_keeps_no_second_worker_however_slow_steps_of_more_would_be() -> None:
    """Where a step's time is all its sequences', few of them could fill what stays; one cannot."""
    law, counts = replace(TOKEN, kv_ratio=0.5, down_window_s=10.0), Counts(2, 2)
    state = State()
    for index in range(20):
        batch = 1 + index % 6 if index < 12 else 1
        at_s = index * 2.0 - 38.0
        said = tokens(2, 0.0, at_s, max_sequences=16, taken=batch, kv_taken=0)
        said = replace(said, steps=100, step_tokens=100 * batch, step_s=0.1 * batch)
        state = observe(state, law, counts, said, at_s)
    made = apart({"pool": Pool(counts, Role.TOKEN, law, state)})["pool"]
    assert (made.replicas, made.reason) == (1, Reason.LOAD_LOW)
