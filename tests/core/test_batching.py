"""What a worker computes next."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.batching import (
    PROMPT_STEPS_BEFORE_DECODE,
    Step,
    StepKind,
    next_step,
    prompt_batch,
)


@pytest.mark.parametrize(
    ("waiting", "running", "in_a_row", "expected"),
    [
        pytest.param([], 0, 0, Step(StepKind.IDLE), id="nothing to do"),
        pytest.param([], 3, 0, Step(StepKind.TOKEN), id="all running sequences decode together"),
        pytest.param([100], 3, 0, Step(StepKind.PROMPT, 1), id="prompts go first"),
        pytest.param(
            [100],
            3,
            PROMPT_STEPS_BEFORE_DECODE,
            Step(StepKind.TOKEN),
            id="prompts do not starve those that decode",
        ),
        pytest.param(
            [100], 0, 99, Step(StepKind.PROMPT, 1), id="a prompt worker never stops for tokens"
        ),
    ],
)
def test_next_step(waiting: Sequence[int], running: int, in_a_row: int, expected: Step) -> None:
    assert next_step(waiting, running, in_a_row) == expected


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
