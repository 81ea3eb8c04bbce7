"""Percentiles of any number of durations in bounded memory."""

from bisect import bisect_left
from itertools import accumulate
from math import ceil, log
from typing import Final

ERROR: Final = 0.005
"""How far a percentile may be from the exact one, as a part of it."""

_GROWTH: Final = (1 + ERROR) / (1 - ERROR)
_LEAST_S: Final = 1e-6
_MOST_S: Final = 1e6
_BUCKETS: Final = ceil(log(_MOST_S / _LEAST_S) / log(_GROWTH)) + 2


class Sketch:
    """Counts durations in buckets, each 1 % wider than the one below.

    Masson, Rim and Lee, "DDSketch", VLDB 2019, show the bound on the error. Durations of less than
    a microsecond count as one.
    """

    __slots__ = ("_counts", "count", "most", "total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0
        self.most = 0.0

    def add(self, seconds: float) -> None:
        """Counts one duration."""
        within = min(max(seconds, _LEAST_S), _MOST_S)
        self._counts[ceil(log(within / _LEAST_S) / log(_GROWTH))] += 1
        self.count += 1
        self.total += seconds
        self.most = max(self.most, seconds)

    def percentile(self, percent: float) -> float | None:
        """The least duration that `percent` % of all do not exceed; None when there is none."""
        if not self.count:
            return None
        rank = max(1, ceil(self.count * percent / 100))
        bucket = bisect_left(list(accumulate(self._counts)), rank)
        middle = 2 * _GROWTH**bucket / (_GROWTH + 1)
        return min(_LEAST_S * middle, self.most) if bucket else min(_LEAST_S, self.most)

    @property
    def mean(self) -> float | None:
        """The exact mean; None when there is none."""
        return self.total / self.count if self.count else None
