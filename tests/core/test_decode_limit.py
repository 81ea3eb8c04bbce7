"""How many sequences decode together: as many as get their tokens in time."""

import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.decode_limit import HEADROOM, LEAST_KEPT, DecodeLimit

MOST = 64


def step_s(sequences: float, fixed_s: float, each_s: float) -> float:
    return fixed_s + each_s * sequences


def crowded(limit: DecodeLimit, steps: int, fixed_s: float, each_s: float) -> list[int]:
    """So many steps of a worker for which more sequences wait than it takes."""
    taken = []
    for _ in range(steps):
        taken.append(limit.sequences)
        limit.stepped(taken[-1], step_s(taken[-1], fixed_s, each_s))
    return taken


def test_without_a_time_only_the_number_counts() -> None:
    limit = DecodeLimit(MOST, None)
    limit.stepped(3, 100.0)
    assert limit.sequences == MOST


def test_nothing_is_known_before_the_first_step() -> None:
    assert DecodeLimit(MOST, 0.001).sequences == MOST


@given(
    tbt_s=st.floats(0.02, 0.5),
    fixed_part=st.floats(0, 0.9),
    right=st.integers(2, MOST - 1),
    began_with=st.integers(1, MOST),
)
def test_a_crowded_worker_settles_at_what_it_can_serve_in_time(
    tbt_s: float, fixed_part: float, right: int, began_with: int
) -> None:
    fixed_s = fixed_part * HEADROOM * tbt_s
    each_s = (HEADROOM * tbt_s - fixed_s) / right
    limit = DecodeLimit(MOST, tbt_s)
    for _ in range(20):
        limit.stepped(began_with, step_s(began_with, fixed_s, each_s))
    taken = crowded(limit, 1500, fixed_s, each_s)
    settled = taken[-100:]
    assert mean(step_s(n, fixed_s, each_s) for n in settled) <= tbt_s
    assert step_s(min(settled) + 1, fixed_s, each_s) >= 0.6 * HEADROOM * tbt_s
    assert max(settled) - min(settled) <= 1 + right // 8


@given(st.lists(st.tuples(st.integers(1, MOST), st.floats(0, 10)), max_size=80))
def test_it_is_never_none_never_above_the_number_and_never_falls_far(
    steps: list[tuple[int, float]],
) -> None:
    limit = DecodeLimit(MOST, 0.05)
    for sequences, seconds in steps:
        limit.stepped(sequences, seconds)
        assert 1 <= limit.sequences <= MOST
    if steps:
        assert limit.sequences >= int(LEAST_KEPT * min(sequences for sequences, _ in steps)) - 1


def test_what_varied_steps_have_taught_a_burst_need_not_learn_again() -> None:
    draw = random.Random(1)
    limit = DecodeLimit(MOST, 0.1)
    for _ in range(200):
        few = draw.randint(1, 8)
        limit.stepped(few, step_s(few, 0.02, 0.002) * draw.uniform(0.9, 1.1))
    assert 20 <= limit.sequences <= 40  # (0.08 - 0.02) / 0.002 = 30


def test_a_worker_that_has_seen_one_size_only_is_careful() -> None:
    limit = DecodeLimit(MOST, 0.1)
    for _ in range(200):
        limit.stepped(4, step_s(4, 0.02, 0.002))
    assert limit.sequences == pytest.approx(4 * 0.08 / 0.028, abs=1)
