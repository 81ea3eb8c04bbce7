"""The interval that the cost of watching is in."""

import random
from statistics import median

import pytest

from bench.watching.calls import Call, before_first_token
from bench.watching.paired import interval


def test_the_interval_holds_the_true_median_in_95_of_100_draws() -> None:
    draw = random.Random(1)
    held = 0
    for _ in range(2000):
        low, middle, high = interval([draw.lognormvariate(0, 1) for _ in range(60)])
        assert low <= middle <= high
        held += low <= 1 <= high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


def test_the_middle_is_the_median() -> None:
    values = [float(value) for value in range(31)]
    assert interval(values)[1] == median(values)


def test_too_few_pairs_are_refused() -> None:
    with pytest.raises(AssertionError, match="19 pairs are too few"):
        interval([0.0] * 19)


def test_of_calls_the_outermost_count_that_begin_before_the_first_token() -> None:
    requests = [(1_000, 9_000), (20_000, 29_000)]
    calls = [
        Call("outer", 1, 2_000, 5_000),
        Call("within", 1, 3_000, 4_000),
        Call("beside", 2, 3_000, 4_000),
        Call("after", 1, 9_500, 9_900),
        Call("outer", 1, 21_000, 22_000),
        Call("outer", 1, 23_000, 24_000),
    ]
    assert before_first_token(calls, requests) == {"outer": (1.0, 2.5), "beside": (0.5, 1.0)}
