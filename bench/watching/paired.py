"""Paired differences: the median, and an interval that it is in."""

from math import floor, sqrt
from statistics import median

FEWEST = 20


def interval(values: list[float]) -> tuple[float, float, float]:
    """The median, and a 95 % confidence interval around it: low, median, high.

    Whatever the distribution, a value is below its median as often as above. So the ranks of the
    interval are a binomial distribution's, here by the normal one: Conover, Practical Nonparametric
    Statistics, 3rd ed., section 3.2.
    """
    count = len(values)
    assert count >= FEWEST, f"{count} pairs are too few: {FEWEST} at least"
    ordered, rank = sorted(values), floor(count / 2 - 1.96 * sqrt(count) / 2)
    return ordered[rank], median(ordered), ordered[-1 - rank]
