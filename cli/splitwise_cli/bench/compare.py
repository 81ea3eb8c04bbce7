"""Two runs of a load side by side: which figures differ for real, and which may be noise.

How far a figure would swing if the run were repeated is told from the run itself, by a block
bootstrap (Künsch, "The Jackknife and the Bootstrap for General Stationary Observations", Annals of
Statistics 17, 1989): the run's slices are drawn anew, with replacement, and the figure is computed
from each draw. Requests of one slice stay together, since a queue makes neighbours alike. What
differs between two runs as a whole, such as a neighbour on the machine, no single run can show.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import accumulate
from math import ceil, sqrt
from random import Random
from statistics import median, stdev
from typing import Any, Final

from splitwise_cli.bench.runs import TIMES, Run, merged

PERCENTS: Final = (50, 90, 99)
DRAWS: Final = 200
"""A standard deviation from as many draws is good to 5 %."""

ERRORS_APART: Final = 3.0
"""Standard errors between figures that differ for real: by chance 1 in 370 does, of some ten."""

LEAST_CHANGE: Final = 0.02
"""Percentiles in a report are up to 0.5 % off: a smaller change is none."""

LEAST_SLICES: Final = 8
LEAST_BEYOND: Final = 5
"""Durations beyond a percentile in each run, or it is told by a single one."""


class Judgement(StrEnum):
    """What may be said of a difference."""

    BETTER = "better"
    WORSE = "worse"
    NOISE = "noise"  # none that stands out from the noise
    UNKNOWN = "too little"  # to tell the noise by


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of two runs; `change` and `error`, one standard error of it, as parts of A."""

    name: str
    unit: str  # s, 1/s or, of a share, none
    first: float | None
    second: float | None
    change: float | None
    error: float | None
    judgement: Judgement


class _Columns:
    """A run, laid out so that a figure of any draw of its slices is told in little time.

    A draw is the numbers of the slices that are in it. Percentiles are looked up in the sum of the
    slices' cumulative counts, which is never made as a whole.
    """

    def __init__(self, run: Run) -> None:
        self.slices, self.slice_s = run.slices, run.slice_s
        self.all = range(len(run.slices))
        self._seconds = {n: sorted(merged(one.times[n] for one in run.slices)) for n in TIMES}
        self._sums = {
            name: [
                list(accumulate(one.times[name].get(s, 0) for s in seconds)) for one in run.slices
            ]
            for name, seconds in self._seconds.items()
        }

    def count(self, name: str) -> int:
        """How many durations there are in all."""
        return sum(sums[-1] for sums in self._sums[name]) if self._seconds[name] else 0

    def percentile(self, name: str, percent: float, draw: Sequence[int]) -> float | None:
        """The least duration that `percent` % in the draw do not exceed; None of nothing."""
        seconds = self._seconds[name]
        drawn = [self._sums[name][number] for number in draw]
        total = sum(sums[-1] for sums in drawn) if seconds else 0
        if not total:
            return None
        rank = max(1, ceil(total * percent / 100))
        return seconds[
            bisect_left(range(len(seconds)), rank, key=lambda i: sum(sums[i] for sums in drawn))
        ]

    def total(self, what: str, draw: Sequence[int]) -> int:
        """A count of the draw's slices, added up."""
        return sum(getattr(self.slices[number], what) for number in draw)


@dataclass(frozen=True, slots=True)
class _Figure:
    name: str
    unit: str
    more_is_better: bool
    of: Callable[[_Columns, Sequence[int]], float | None]
    beyond: Callable[[_Columns], float]  # how many durations or requests tell it


def compare(first: Run, second: Run, seed: int = 0) -> list[Difference]:
    """Every figure of both. Same runs and seed, same answer."""
    draw = Random(seed)
    columns = _Columns(first), _Columns(second)
    return [_difference(figure, *columns, draw) for figure in _figures()]


def unlike(first: Run, second: Run) -> list[str]:
    """In what the two loads differ: then their figures differ for that, too."""
    one, other = first.report.get("load", {}), second.report.get("load", {})
    found = [
        f"{name}: {one.get(name)} and {other.get(name)}"
        for name in sorted({*one, *other} - {"seed"})
        if one.get(name) != other.get(name)
    ]
    models = first.report.get("model"), second.report.get("model")
    return found if models[0] == models[1] else [f"model: {models[0]} and {models[1]}", *found]


def _difference(figure: _Figure, first: _Columns, second: _Columns, draw: Random) -> Difference:
    a, b = (figure.of(run, run.all) for run in (first, second))
    if a is None or b is None or a <= 0:
        return Difference(figure.name, figure.unit, a, b, None, None, Judgement.UNKNOWN)
    change = b / a - 1
    enough = all(
        len(run.all) >= LEAST_SLICES and figure.beyond(run) >= LEAST_BEYOND
        for run in (first, second)
    )
    if not enough:
        return Difference(figure.name, figure.unit, a, b, change, None, Judgement.UNKNOWN)
    error_a, error_b = (_error(figure, run, draw) for run in (first, second))
    error = sqrt(error_b**2 + (b / a * error_a) ** 2) / a  # of b / a, to first order
    if abs(change) <= max(LEAST_CHANGE, ERRORS_APART * error):
        judgement = Judgement.NOISE
    else:
        judgement = Judgement.BETTER if (change > 0) == figure.more_is_better else Judgement.WORSE
    return Difference(figure.name, figure.unit, a, b, change, error, judgement)


def _error(figure: _Figure, run: _Columns, draw: Random) -> float:
    """The standard error of a run's figure."""
    count = len(run.all)
    drawn = (figure.of(run, draw.choices(run.all, k=count)) for _ in range(DRAWS))
    found = [value for value in drawn if value is not None]
    return stdev(found) * sqrt(count / (count - 1)) if len(found) > 1 else 0.0


def _figures() -> Iterator[_Figure]:
    for name, title in TIMES.items():
        for percent in PERCENTS:
            yield _time(name, f"{title} P{percent}", percent)
    yield _Figure("output tokens", "1/s", True, _tokens_per_s, _sent)
    yield _Figure("right answers", "", True, partial(_share, "ok"), _sent)
    yield _Figure("good answers", "", True, partial(_share, "good"), _sent)


def _time(name: str, title: str, percent: float) -> _Figure:
    def of(run: _Columns, draw: Sequence[int]) -> float | None:
        return run.percentile(name, percent, draw)

    def beyond(run: _Columns) -> float:
        return run.count(name) * (1 - percent / 100)

    return _Figure(title, "s", False, of, beyond)


def _tokens_per_s(run: _Columns, draw: Sequence[int]) -> float | None:
    """Of the middle slice: the last one may be cut short."""
    found = [run.slices[number].output_tokens for number in draw]
    return median(found) / run.slice_s if found else None


def _share(what: str, run: _Columns, draw: Sequence[int]) -> float | None:
    sent = run.total("sent", draw)
    return run.total(what, draw) / sent if sent else None


def _sent(run: _Columns) -> float:
    return run.total("sent", run.all)


def body(differences: Sequence[Difference], about: Sequence[str]) -> dict[str, Any]:
    """As `-o json` prints it."""
    return {
        "unlike": list(about),
        "worse": any(one.judgement is Judgement.WORSE for one in differences),
        "figures": [
            {
                "figure": one.name,
                "unit": one.unit,
                "a": one.first,
                "b": one.second,
                "change": one.change,
                "standard_error": one.error,
                "judgement": one.judgement.value,
            }
            for one in differences
        ],
    }
