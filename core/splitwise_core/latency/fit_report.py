"""How wrong a fit is: on its own points, on a fifth left out, and on whole sizes left out."""

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Generic, TypeVar

Point = TypeVar("Point")

SPLITS: Final = 10
"""Draws of a fifth of the points, over which the error of the rest's fit is the mean."""

HELD_OUT: Final = 0.2


@dataclass(frozen=True, slots=True)
class Fitting(Generic[Point]):
    """A fitted model, as it is judged: seconds of a point, and whether it lies beyond the points
    that the model was fitted to."""

    seconds: Callable[[Point], float]
    extrapolates: Callable[[Point], bool]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The error at one size when all others were fitted, and whether it lies beyond them."""

    size: Hashable
    error: float
    extrapolated: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """Mean absolute errors as ratios: 0.02 is 2 %.

    `own`: of the points that it was fitted to. `held_out`: of a fifth that was not, the mean over
    `SPLITS` draws. `sizes`: of each size when all others were fitted. Where too few points were
    measured to leave some out, `held_out` is None and `sizes` empty.
    """

    points: int
    own: float
    held_out: float | None
    sizes: tuple[LeftOut, ...]

    @property
    def left_out(self) -> float | None:
        """The mean over all sizes, each left out in its turn."""
        return fmean(size.error for size in self.sizes) if self.sizes else None


def report_of(
    points: Sequence[Point],
    fit: Callable[[Sequence[Point]], Fitting[Point]],
    measured_s: Callable[[Point], float],
    size: Callable[[Point], Hashable],
    least_sizes: int = 2,
) -> Fit:
    """How wrong `fit` is, which needs `least_sizes` different sizes. Deterministic."""

    def error(model: Fitting[Point], judged: Sequence[Point]) -> float:
        return fmean(abs(model.seconds(point) / measured_s(point) - 1) for point in judged)

    held_out = []
    for seed in range(SPLITS):
        order = random.Random(seed).sample(points, len(points))
        cut = max(1, round(HELD_OUT * len(points)))
        if len({size(point) for point in order[cut:]}) >= least_sizes:
            held_out.append(error(fit(order[cut:]), order[:cut]))
    sizes = list(dict.fromkeys(map(size, points)))
    left_out = []
    for one in sizes if len(sizes) > least_sizes else []:
        own = [point for point in points if size(point) == one]
        model = fit([point for point in points if size(point) != one])
        left_out.append(LeftOut(one, error(model, own), model.extrapolates(own[0])))
    return Fit(
        points=len(points),
        own=error(fit(points), points),
        held_out=fmean(held_out) if held_out else None,
        sizes=tuple(left_out),
    )
