"""What chance does to a queue, and that a pool neither grows for it nor shrinks into it."""

from dataclasses import replace
from math import exp, factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.chance import bursts, queues, waiting
from splitwise_core.policy.scaling import Counts, Reading, Reason
from splitwise_core.policy.scaling.law import LONG, QUEUE
from tests.core.scaling.world import PROMPT, SPEED, alone, prompts, whole_window

WORKERS = st.integers(1, 200)
SHARES = st.floats(0.01, 0.99)
EACH = st.floats(1, 40)


@given(SHARES, EACH)
def test_before_one_worker_a_queue_is_that_long_as_often_as_its_formula_says(
    offered: float, each: float
) -> None:
    assert queues(1, offered, each) == pytest.approx(offered**each)


def test_erlangs_formula_has_its_published_values() -> None:
    assert list(waiting(1.0, 3)) == pytest.approx([1.0, 1 / 3, 1 / 11])


@given(WORKERS, SHARES, EACH)
def test_more_workers_or_a_longer_queue_are_rarer(workers: int, share: float, each: float) -> None:
    often = queues(workers, share * workers, each)
    assert 0 <= queues(workers + 1, share * workers, each) <= often <= 1
    assert queues(workers, share * workers, each + 1) <= often


@given(st.floats(0.1, 20), st.integers(1, 80))
def test_a_burst_is_never_more_frequent_than_its_bound(mean: float, least: int) -> None:
    fewer = sum(exp(-mean) * mean**count / factorial(count) for count in range(least))
    assert 1 - fewer <= bursts(mean, least) + 1e-9
    assert bursts(mean, least + 1) <= bursts(mean, least) <= 1


def long_prompts(workers: int, each: float, at_s: float = 0.0) -> Reading:
    """Prompts of two seconds: so many are at each worker, and more come than it can compute."""
    said = prompts(workers, 1.5 * workers, 2.0 * each, at_s)
    return replace(said, prompts=1, prompt_tokens=2 * SPEED, prompt_s=2.0)


@pytest.mark.parametrize(
    ("each", "committed_s", "grows"),
    [
        pytest.param(1, 60.0, False, id="one that is computed is no backlog"),
        pytest.param(QUEUE - 0.1, 60.0, False, id="nor are some that wait by chance"),
        pytest.param(QUEUE + 0.1, 60.0, True, id="more are"),
        pytest.param(2.6, 5.0, True, id="as many as routers let wait are, too"),
        pytest.param(2.4, 5.0, False, id="fewer than those are not"),
    ],
)
def test_prompts_that_take_longer_than_may_wait(
    each: float, committed_s: float, grows: bool
) -> None:
    law = replace(PROMPT, backlog_s=1.5, committed_s=committed_s)
    made = alone(law, Counts(2, 2), long_prompts(2, each))
    assert (made.replicas > 2) is grows


@pytest.mark.parametrize(
    ("prompt_s", "windows", "after"),
    [
        pytest.param(0.1, 1, 1, id="short prompts: one window tells that fewer workers do"),
        pytest.param(2.0, 1, 2, id="long prompts: chance would soon undo it"),
        pytest.param(4.0, LONG, 2, id="and so it would after a long time without"),
    ],
)
def test_as_much_work_in(prompt_s: float, windows: int, after: int) -> None:
    law = replace(PROMPT, down_window_s=20.0)
    tokens = round(prompt_s * SPEED)
    said = replace(prompts(2, 0.2), prompts=1, prompt_tokens=tokens, prompt_s=prompt_s)
    looks = windows * whole_window(law)
    assert alone(law, Counts(2, 2), said, looks).replicas == after


def test_where_nothing_comes_a_pool_shrinks_however_long_its_prompts_are() -> None:
    nothing = replace(prompts(2), prompts=1, prompt_tokens=8 * SPEED, prompt_s=8.0)
    made = alone(PROMPT, Counts(2, 2), nothing, whole_window(PROMPT))
    assert (made.replicas, made.reason) == (1, Reason.LOAD_LOW)
