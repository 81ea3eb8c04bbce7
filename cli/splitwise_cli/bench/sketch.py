"""Percentiles of any number of durations in bounded memory."""

from bisect import bisect_left
from collections.abc import Collection
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

    def add(self, seconds: float, beside: "Sketch | None" = None) -> None:
        """Counts one duration here, and `beside` too."""
        self.add_all((seconds,), beside)

    def add_all(self, durations: Collection[float], beside: "Sketch | None" = None) -> None:
        """Counts durations here, and `beside` too: the bucket of each is told once for both."""
        sketches = (self,) if beside is None else (self, beside)
        lists = [sketch._counts for sketch in sketches]
        for seconds in durations:
            within = min(max(seconds, _LEAST_S), _MOST_S)
            bucket = ceil(log(within / _LEAST_S) / log(_GROWTH))
            for counts in lists:
                counts[bucket] += 1
        for sketch in sketches:
            sketch.count += len(durations)
            sketch.total += sum(durations)
            sketch.most = max(sketch.most, max(durations, default=0.0))

    def take_in(self, other: "Sketch") -> None:
        """Adds what another one has counted."""
        self._counts = [one + more for one, more in zip(self._counts, other._counts)]
        self.count += other.count
        self.total += other.total
        self.most = max(self.most, other.most)

    def spread(self) -> dict[str, list[float]]:
        """The buckets that are not empty: their durations, and how many each has."""
        found = [(i, count) for i, count in enumerate(self._counts) if count]
        return {
            "seconds": [float(f"{_middle_s(i):.4g}") for i, _ in found],
            "counts": [count for _, count in found],
        }

    def percentile(self, percent: float) -> float | None:
        """The least duration that `percent` % of all do not exceed; None when there is none."""
        if not self.count:
            return None
        rank = max(1, ceil(self.count * percent / 100))
        bucket = bisect_left(list(accumulate(self._counts)), rank)
        return min(_middle_s(bucket), self.most)

    @property
    def mean(self) -> float | None:
        """The exact mean; None when there is none."""
        return self.total / self.count if self.count else None


def _middle_s(bucket: int) -> float:
    """What a duration in this bucket is told as."""
    return _LEAST_S * 2 * _GROWTH**bucket / (_GROWTH + 1) if bucket else _LEAST_S
