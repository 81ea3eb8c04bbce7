"""What a worker computes next."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.batching import (
    PREEMPTIONS,
    Preempted,
    Step,
    StepKind,
    chunks,
    next_step,
    prompt_batch,
)

PROMPT, TOKEN, MIXED, IDLE = StepKind.PROMPT, StepKind.TOKEN, StepKind.MIXED, StepKind.IDLE
CHUNK = 512


@pytest.mark.parametrize(
    ("waiting", "running", "preempted", "expected"),
    [
        pytest.param([], 0, Preempted(), Step(IDLE), id="nothing to do"),
        pytest.param([], 3, Preempted(), Step(TOKEN), id="all running sequences decode together"),
        pytest.param([100], 3, Preempted(), Step(PROMPT, (100,)), id="prompts go first"),
        pytest.param(
            [100],
            3,
            Preempted(PREEMPTIONS - 1),
            Step(MIXED, (100,)),
            id="but not for ever: the second step is of tokens too",
        ),
        pytest.param(
            [100],
            3,
            Preempted(0, age=2),
            Step(MIXED, (100,)),
            id="and who has waited waits for less",
        ),
        pytest.param(
            [100], 0, Preempted(99, 4), Step(PROMPT, (100,)), id="a prompt worker stops for nobody"
        ),
        pytest.param(
            [1000, 1048, 1], 0, Preempted(), Step(PROMPT, (1000, 1048)), id="whole prompts"
        ),
        pytest.param([9000], 0, Preempted(), Step(PROMPT, (9000,)), id="a long one runs alone"),
        pytest.param(
            [9000], 1, Preempted(), Step(PROMPT, (CHUNK,)), id="in chunks where others decode"
        ),
        pytest.param(
            [500, 500, 9], 1, Preempted(), Step(PROMPT, (500, 12)), id="a chunk may be of several"
        ),
    ],
)
def test_next_step(
    waiting: Sequence[int], running: int, preempted: Preempted, expected: Step
) -> None:
    assert next_step(waiting, running, preempted, chunk_tokens=CHUNK) == expected


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        pytest.param([1000, 1048, 1], 2, id="up to the cap, in order"),
        pytest.param([1000, 1049, 1], 1, id="the next prompt waits whole; none overtakes it"),
        pytest.param([5000, 10], 1, id="a prompt above the cap runs alone"),
        pytest.param([10], 1, id="one prompt"),
    ],
)
def test_prompts_are_batched_first_come_first_served(waiting: list[int], expected: int) -> None:
    assert prompt_batch(waiting, 2048) == expected


@given(st.lists(st.integers(1, 4000), min_size=1), st.integers(1, 4096))
def test_a_prompt_batch_is_never_empty_and_only_a_single_prompt_may_pass_the_cap(
    waiting: list[int], cap: int
) -> None:
    count = prompt_batch(waiting, cap)
    assert 1 <= count <= len(waiting)
    assert count == 1 or sum(waiting[:count]) <= cap
    assert count == len(waiting) or sum(waiting[: count + 1]) > cap


@given(st.lists(st.integers(1, 4000), min_size=1), st.integers(1, 4096))
def test_chunks_fill_the_budget_in_order_and_cut_none_but_the_last(
    waiting: list[int], budget: int
) -> None:
    taken = chunks(waiting, budget)
    assert sum(taken) == min(budget, sum(waiting))
    assert list(taken[:-1]) == waiting[: len(taken) - 1]
    assert 0 < taken[-1] <= waiting[len(taken) - 1]


arrivals = st.lists(st.lists(st.integers(1, 3000), max_size=3), min_size=1, max_size=60)


def run(coming: list[list[int]], running: int) -> list[tuple[Step, bool]]:
    """The steps of a mixed worker to which prompts keep coming; whether prompts were waiting."""
    waiting, preempted, steps = list[int](), Preempted(), []
    for new in coming:
        waiting += new
        step = next_step(waiting, running, preempted, chunk_tokens=CHUNK)
        steps.append((step, bool(waiting)))
        preempted = preempted.after(step, running)
        for number, tokens in enumerate(step.prompt_tokens):
            waiting[number] -= tokens
        waiting = [tokens for tokens in waiting if tokens]
    return steps


@given(arrivals)
def test_those_that_decode_are_never_held_up_by_more_than_two_chunks(
    coming: list[list[int]],
) -> None:
    stall = 0
    for step, _ in run(coming, running=1):
        stall += sum(step.prompt_tokens)
        assert step.kind is not IDLE
        assert stall <= PREEMPTIONS * CHUNK
        stall = stall if step.kind is PROMPT else 0


@given(arrivals)
def test_while_prompts_keep_coming_those_that_decode_wait_for_less_and_less(
    coming: list[list[int]],
) -> None:
    rows, row = [], 0
    for step, prompts_wait in run(coming, running=1):
        if step.kind is PROMPT:
            row += 1
        elif prompts_wait:
            rows.append(row + 1)
            row = 0
        else:
            rows, row = [], 0
        assert all(every <= max(1, PREEMPTIONS >> age) for age, every in enumerate(rows))


@given(arrivals, st.integers(1, 3))
def test_no_step_is_of_tokens_alone_while_prompts_wait(
    coming: list[list[int]], running: int
) -> None:
    for step, prompts_wait in run(coming, running):
        assert (step.kind is TOKEN) == (not prompts_wait)


@given(arrivals, st.integers(0, 3))
def test_a_worker_is_idle_only_when_nothing_is_to_do(coming: list[list[int]], running: int) -> None:
    for step, prompts_wait in run(coming, running):
        assert (step.kind is IDLE) == (not prompts_wait and not running)
