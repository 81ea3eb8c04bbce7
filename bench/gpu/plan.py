"""What is checked and measured, as data: planned first, then run one by one, then reported."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple


class PlannedCheck(NamedTuple):
    """`error` computes a number that must not exceed `tolerance`."""

    name: str
    tolerance: float
    error: Callable[[], float]


class PlannedFigure(NamedTuple):
    """`seconds` measures one run, which does `amount` of `unit`; a unit of "us" is the time itself.

    `ceiling` is what the device can do at most and `goal` what we want, both in `unit`.
    """

    name: str
    unit: str
    amount: float
    seconds: Callable[[], float]
    ceiling: float | None = None
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """`error` is NaN when the check could not run; `problem` then says why."""

    name: str
    error: float
    tolerance: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """False for NaN too."""
        return self.error <= self.tolerance


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` is NaN when it could not be measured; `problem` then says why."""

    name: str
    value: float
    unit: str
    seconds: float
    ceiling: float | None
    goal: float | None
    problem: str = ""

    @property
    def fraction(self) -> float | None:
        """Of what the device itself does; None when there is nothing to compare with."""
        return None if self.ceiling is None else self.value / self.ceiling


def run_check(planned: PlannedCheck) -> Check:
    """The result; a check that raises has failed, and the others still run."""
    try:
        return Check(planned.name, planned.error(), planned.tolerance)
    except Exception as error:
        return Check(planned.name, math.nan, planned.tolerance, _problem(error))


def run_figure(planned: PlannedFigure) -> Figure:
    """The result; a measurement that raises has no value, and the others still run."""
    name, unit, amount, seconds_of, ceiling, goal = planned
    try:
        seconds = seconds_of()
    except Exception as error:
        return Figure(name, math.nan, unit, math.nan, ceiling, goal, _problem(error))
    value = seconds * 1e6 if unit == "us" else amount / seconds
    return Figure(name, value, unit, seconds, ceiling, goal)


def _problem(error: Exception) -> str:
    text = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {text[0][:300]}"
