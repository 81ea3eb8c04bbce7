"""What happened between two readings of growing counters: rates, and percentiles of histograms."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True, slots=True)
class Times:
    """A histogram: `bounds` in seconds, `counts` of what took as long or less, `total_s` of all.

    The last count has no bound: it is that of everything.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = (0,)
    total_s: float = 0.0

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.bounds) + 1:
            raise ValueError(f"{len(self.counts)} counts do not suit {len(self.bounds)} bounds")
        if any(more < less for less, more in zip(self.counts, self.counts[1:])):
            raise ValueError("the counts of a histogram fall")

    @property
    def count(self) -> int:
        """All that was counted."""
        return self.counts[-1]

    def since(self, before: "Times") -> "Times":
        """What came to be counted since `before`; all of it where that had other bounds."""
        if before.bounds != self.bounds:
            return self
        counts = [now - then for now, then in zip(self.counts, before.counts)]
        rising = tuple(accumulate((max(0, count) for count in counts), max))
        return Times(self.bounds, rising, max(0.0, self.total_s - before.total_s))

    def percentile(self, percent: float) -> float | None:
        """The time in seconds that `percent` % did not exceed; None when nothing was counted.

        By a straight line within its bucket, from 0 in the first one, as Prometheus'
        `histogram_quantile` does: right to a bucket's width. Beyond the last bound it is that.
        """
        if not self.count or not self.bounds:
            return None
        rank = percent / 100 * self.count
        bucket = next(i for i, count in enumerate(self.counts) if count >= rank)
        if bucket == len(self.bounds):
            return self.bounds[-1]
        before, least = (self.counts[bucket - 1], self.bounds[bucket - 1]) if bucket else (0, 0.0)
        inside = self.counts[bucket] - before
        share = (rank - before) / inside if inside else 0.0
        return least + (self.bounds[bucket] - least) * share


def together(parts: Iterable[Times]) -> Times:
    """Histograms of several routers as one. Those of other bounds than the first's are left out."""
    first: Times | None = None
    counts: Sequence[int] = ()
    total_s = 0.0
    for part in parts:
        if first is None:
            first, counts = part, part.counts
        elif part.bounds == first.bounds:
            counts = [one + other for one, other in zip(counts, part.counts)]
        else:
            continue
        total_s += part.total_s
    return Times() if first is None else Times(first.bounds, tuple(counts), total_s)


def rate(now: float, before: float, seconds: float) -> float:
    """Growth a second; 0 where no time has passed, or the counter has fallen."""
    return max(0.0, now - before) / seconds if seconds > 0 else 0.0
