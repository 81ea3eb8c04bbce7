"""`splitwise plan`: the cheapest cluster of each kind for a rate, or the rates of clusters."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from os import cpu_count
from typing import Final, TypeVar

from splitwise_core.errors import UserError
from splitwise_planner.design import Design, parse_design
from splitwise_planner.evaluate import Evaluator
from splitwise_planner.hours import DayPlan, size_day
from splitwise_planner.request import Budgets, Objective, Request, prepared, refused
from splitwise_planner.search import Pair
from splitwise_planner.sizing import Sized, goal_of, larger, size

__all__ = ["Budgets", "Objective", "Plan", "Rated", "Request", "Sized", "plan", "rate"]

MAX_KINDS: Final = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """The best cluster of each kind, cheapest first. `gain_rps`: by how many requests a second the
    winner's highest rate goes up with one machine more of each phase, on the first seed. `day`:
    what the winner needs hour by hour."""

    sized: tuple[Sized, ...]
    gain_rps: dict[str, int]
    day: DayPlan | None = None


@dataclass(frozen=True, slots=True)
class Rated:
    """The highest whole rate of a cluster on each seed, and what breaks beyond."""

    design: Design
    max_rates: tuple[int, ...]
    breaks_first: tuple[str, ...]
    simulations: int


Asked = TypeVar("Asked")
Found = TypeVar("Found")

Progress = Callable[[int, int, str], None]
"""Kinds or clusters that are done, all of them, and what is being done."""


def plan(request: Request, progress: Progress) -> Plan:
    """The best cluster of each kind for the rate. Raises UserError, with plan-impossible when no
    kind has one."""
    assert request.rate is not None
    kinds = request.kinds
    if len(kinds) > MAX_KINDS:
        raise refused("--designs", f"are {len(kinds)} kinds", f"give {MAX_KINDS} at most")
    with prepared(request) as (catalog, evaluator):
        sized = _side_by_side(evaluator, kinds, partial(size, request, catalog), progress)
        if not any(one.design for one in sized):
            raise _impossible(request, sized)
        sized.sort(key=lambda one: _rank(one, request.objective))
        progress(len(kinds), len(kinds), "what one machine more would bring")
        gain_rps = _gain(request, evaluator, sized[0])
        day = None
        if request.day is not None:
            day = size_day(request, request.day, evaluator, sized[0], progress)
        return Plan(tuple(sized), gain_rps, day)


def rate(request: Request, progress: Progress) -> list[Rated]:
    """The highest rate of each cluster, in the order asked for. Raises UserError."""
    if request.power_caps or request.tensor_parallel:
        raise refused(
            "--power-caps and --tensor-parallel",
            "go with --rate",
            "name caps and degrees in --designs, as in HH@70/4-35P-5T",
        )
    with prepared(request) as (catalog, evaluator):
        designs = [parse_design(name, catalog) for name in request.kinds]
        return _side_by_side(evaluator, designs, partial(_rate, request.seeds), progress)


def _side_by_side(
    evaluator: Evaluator,
    asked: Sequence[Asked],
    search: Callable[[Evaluator, Asked, Callable[[str], None]], Found],
    progress: Progress,
) -> list[Found]:
    """What `search` finds for each, in their order; each has an evaluator of its own, and says
    what it does."""
    done = 0

    def tell(text: str) -> None:
        progress(done, len(asked), text)

    with ThreadPoolExecutor(_threads(evaluator, len(asked))) as threads:
        searches = [threads.submit(search, replace(evaluator), one, tell) for one in asked]
        found = []
        for running in searches:
            found.append(running.result())
            done += 1
            tell("")
    return found


def _threads(evaluator: Evaluator, most: int) -> int:
    """Searches side by side: all of them where others compute, else one a core."""
    return most if evaluator.others is not None else min(most, cpu_count() or 1)


def _gain(request: Request, evaluator: Evaluator, winner: Sized) -> dict[str, int]:
    """Requests a second that one machine more of each phase brings the winner."""
    assert winner.design is not None
    assert request.rate is not None
    known = int(request.rate)
    own = evaluator.max_rate(winner.design, 0, known)
    return {
        name: evaluator.max_rate(design, 0, known) - own
        for name, design in larger(winner.design).items()
    }


def _rate(seeds: int, evaluator: Evaluator, design: Design, tell: Callable[[str], None]) -> Rated:
    """The highest rates of one cluster, each seed by itself."""
    rates, breaks = [], []
    for seed in range(seeds):
        rates.append(evaluator.max_rate(design, seed))
        breaks += evaluator.verdict(design, rates[-1] + 1, seed).broken
        tell(f"{design}: {rates[-1]} requests/s with seed {seed}")
    return Rated(design, tuple(rates), tuple(dict.fromkeys(breaks)), evaluator.simulations)


def _rank(sized: Sized, objective: Objective) -> tuple[bool, float]:
    """Cheapest first, those without a plan last."""
    design = sized.nearest
    pair = Pair(design.prompt, design.token)
    return sized.design is None, goal_of(design, objective).sum_of(pair)


def _impossible(request: Request, sized: Sequence[Sized]) -> UserError:
    lines = []
    for one in sized:
        if not one.trial.verdicts:
            lines.append(f"{one.kind}: the budgets do not allow its smallest cluster")
            continue
        lines.append(f"{one.kind}: nearest was {one.nearest}, where {one.trial.trouble}")
    return UserError(
        "plan-impossible",
        where=f"{request.rate:g} requests/s of {request.trace.name}",
        wrong="no design keeps the objectives within the budgets:\n  " + "\n  ".join(lines),
        fix="raise the budget that binds, lower --rate, or allow other --designs",
    )
