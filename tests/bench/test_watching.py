"""The interval that the cost of watching is in."""

import random
from statistics import median

import pytest

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
