"""The least machines of a pool by time of day, as few periods: what a pool's `schedule` can say.

Pure: machines of each hour in, periods and machine-hours out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import ceil
from typing import Final, NamedTuple

from splitwise_core.spec_autoscaling import MOST_PERIODS

HOUR_MIN: Final = 60
DAY_MIN: Final = 24 * HOUR_MIN


def clock(minute: int) -> str:
    """A minute of the day, as 08:30."""
    return f"{minute // HOUR_MIN:02}:{minute % HOUR_MIN:02}"


@dataclass(frozen=True, slots=True)
class Period:
    """So many machines at least, between two times of day in minutes; one that ends when it begins,
    or before, goes on into the next day."""

    begins_min: int
    ends_min: int
    machines: int

    def has(self, minute: int) -> bool:
        """Whether it goes on at this minute of the day."""
        if self.ends_min <= self.begins_min:
            return minute >= self.begins_min or minute < self.ends_min
        return self.begins_min <= minute < self.ends_min


@dataclass(frozen=True, slots=True)
class Schedule:
    """A pool's machines: `least` at any time, `most` at the busiest, and periods with more at
    least."""

    least: int
    most: int
    periods: tuple[Period, ...]

    def at(self, minute: int) -> int:
        """The least at a minute of the day."""
        return max([self.least, *(one.machines for one in self.periods if one.has(minute))])

    @property
    def machine_hours(self) -> float:
        """Of a day, with the least machines all the time."""
        return sum(map(self.at, range(DAY_MIN))) / HOUR_MIN


class _Run(NamedTuple):
    """Hours one after the other with as many machines."""

    begins: int
    hours: int
    machines: int


def schedule_of(hourly: Sequence[int], start_s: float) -> Schedule:
    """The schedule for the machines that each of 24 hours needs.

    A period with more machines than the hours before begins `start_s` sooner, so that they serve
    when it is time. Hours that differ so often that a pool's schedule could not hold it get as many
    as a neighbour, where that costs the fewest machine-hours.
    """
    least = min(hourly)
    runs = _runs(hourly)
    while sum(run.machines > least for run in runs) > MOST_PERIODS:
        runs = _runs(_rounded_up(runs))
    lead_min = ceil(start_s / 60)
    periods = []
    for before, run in zip([runs[-1], *runs], runs):
        if run.machines == least:
            continue
        begins, length = run.begins * HOUR_MIN, run.hours * HOUR_MIN
        sooner = min(lead_min, DAY_MIN - length) if run.machines > before.machines else 0
        ends = (begins + length) % DAY_MIN
        periods.append(Period((begins - sooner) % DAY_MIN, ends, run.machines))
    return Schedule(least, max(hourly), tuple(periods))


def _runs(hourly: Sequence[int]) -> list[_Run]:
    """Hours with as many machines, around the clock: the last run may go on past midnight."""
    runs = []
    for machines, group in groupby(range(len(hourly)), key=lambda hour: hourly[hour]):
        hours = list(group)
        runs.append(_Run(hours[0], len(hours), machines))
    if len(runs) > 1 and runs[0].machines == runs[-1].machines:
        first = runs.pop(0)
        runs[-1] = runs[-1]._replace(hours=runs[-1].hours + first.hours)
    return runs


def _rounded_up(runs: Sequence[_Run]) -> list[int]:
    """Machines of each hour, where the run that costs the least has as many as a neighbour with
    more."""

    def cost(pair: tuple[_Run, _Run]) -> int:
        less, more = pair
        return (more.machines - less.machines) * less.hours

    pairs = [_ordered(*pair) for pair in pairwise([runs[-1], *runs])]
    less, more = min(pairs, key=cost)
    hourly = [0] * sum(run.hours for run in runs)
    for run in runs:
        machines = more.machines if run == less else run.machines
        for hour in range(run.begins, run.begins + run.hours):
            hourly[hour % len(hourly)] = machines
    return hourly


def _ordered(one: _Run, other: _Run) -> tuple[_Run, _Run]:
    """The run with fewer machines first."""
    return (one, other) if one.machines < other.machines else (other, one)
