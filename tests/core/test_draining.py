"""What becomes of the work of a worker that drains."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.draining import SOON_S, Fate, fate, in_time

LEFT = st.integers(1, 10_000)
TIME = st.floats(0, 100)


@pytest.mark.parametrize(
    ("most_left", "token_s", "left_s", "expected"),
    [
        pytest.param(10, 0.05, 20, Fate.STAYS, id="what ends soon ends here"),
        pytest.param(1000, 0.05, 20, Fate.MOVES, id="what would go on for long moves"),
        pytest.param(100, 0.05, 20, Fate.MOVES, id="in time is not soon: the drain would wait"),
        pytest.param(30, 0.05, 1, Fate.MOVES, id="soon, and still too late"),
        pytest.param(10, 0.0, 20, Fate.MOVES, id="nobody knows how long a token takes"),
        pytest.param(1, 0.05, 0, Fate.RETURNS, id="no time is left"),
    ],
)
def test_a_sequence_that_decodes(
    most_left: int, token_s: float, left_s: float, expected: Fate
) -> None:
    assert fate(most_left, token_s, left_s) is expected


@given(most_left=LEFT, token_s=TIME, left_s=TIME)
def test_what_stays_ends_before_the_worker_does_and_soon(
    most_left: int, token_s: float, left_s: float
) -> None:
    if fate(most_left, token_s, left_s) is Fate.STAYS:
        assert most_left * token_s <= min(left_s, SOON_S)


@given(most_left=LEFT, more=LEFT, token_s=TIME, left_s=TIME)
def test_a_sequence_with_more_to_come_never_stays_where_a_shorter_one_moves(
    most_left: int, more: int, token_s: float, left_s: float
) -> None:
    if fate(most_left, token_s, left_s) is Fate.MOVES:
        assert fate(most_left + more, token_s, left_s) is Fate.MOVES


@pytest.mark.parametrize(
    ("waiting", "tokens_per_s", "left_s", "expected"),
    [
        pytest.param([100, 100, 100], 100, 2.5, 2, id="those that are computed in time"),
        pytest.param([500, 1], 100, 2.5, 0, id="none goes past one that is too long"),
        pytest.param([100, 100], 0, 2.5, 2, id="all, while no speed is known"),
        pytest.param([1], 100, 0, 0, id="none without time"),
        pytest.param([], 100, 5, 0, id="none of none"),
    ],
)
def test_prompts_that_wait(
    waiting: list[int], tokens_per_s: float, left_s: float, expected: int
) -> None:
    assert in_time(waiting, tokens_per_s, left_s) == expected


@given(waiting=st.lists(LEFT, max_size=9), speed=st.floats(1, 1e5), left_s=TIME)
def test_the_prompts_that_stay_are_computed_in_time(
    waiting: list[int], speed: float, left_s: float
) -> None:
    kept = in_time(waiting, speed, left_s)
    assert sum(waiting[:kept]) <= speed * left_s
    assert kept == len(waiting) or sum(waiting[: kept + 1]) > speed * left_s or left_s == 0
