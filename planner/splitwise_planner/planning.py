"""`splitwise plan`: the cheapest cluster of each kind for a rate, or the rates of clusters."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from os import cpu_count
from pathlib import Path
from typing import Final, Literal

from splitwise_core.errors import UserError
from splitwise_planner.catalog import Catalog, load_catalog
from splitwise_planner.design import Design, design_of, parse_design
from splitwise_planner.evaluate import Evaluator, Trial
from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.search import Limit, Pair, Search
from splitwise_planner.trace import load_trace
from splitwise_planner.workload import Workload

Objective = Literal["cost", "power", "machines"]

MOST_MACHINES: Final = 512
"""The search's own bound, where no budget is tighter."""

MAX_SEEDS: Final = 100


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a plan has to stay within."""

    dollars_per_hour: float | None = None
    power_units: float | None = None
    machines: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `designs` are kinds to size for `rate`, or whole clusters without one."""

    model: str
    trace: Path
    designs: Sequence[str]
    rate: float | None
    objective: Objective
    budgets: Budgets
    seeds: int
    duration_s: float
    catalog: Path
    phase_times: Path


@dataclass(frozen=True, slots=True)
class Sized:
    """The best cluster of a kind: `trial` has all seeds; `next_load` is the load with one machine
    more of each phase. `design` is None when none was good enough, and `trial` then the nearest."""

    kind: str
    design: Design | None
    nearest: Design
    trial: Trial
    next_load: dict[str, float]
    simulations: int


@dataclass(frozen=True, slots=True)
class Rated:
    """The highest whole rate of a cluster on each seed, and what breaks beyond."""

    design: Design
    max_rates: tuple[int, ...]
    breaks_first: tuple[str, ...]
    simulations: int


Progress = Callable[[str], None]


def plan(request: Request, progress: Progress) -> list[Sized]:
    """The best cluster of each kind for the rate, cheapest first. Raises UserError, with
    plan-impossible when no kind has one."""
    assert request.rate is not None
    catalog, evaluator = _prepared(request)
    # Compiled code runs without Python's lock: kinds are sized side by side.
    with ThreadPoolExecutor(min(len(request.designs), cpu_count() or 1)) as threads:
        searches = [
            threads.submit(_size, request, catalog, replace(evaluator), kind, progress)
            for kind in request.designs
        ]
        sized = [search.result() for search in searches]
    if not any(one.design for one in sized):
        raise _impossible(request, sized)
    return sorted(sized, key=lambda one: _rank(one, request.objective))


def rate(request: Request, progress: Progress) -> list[Rated]:
    """The highest rate of each cluster, in the order asked for. Raises UserError."""
    catalog, evaluator = _prepared(request)
    designs = [parse_design(name, catalog) for name in request.designs]
    with ThreadPoolExecutor(min(len(designs), cpu_count() or 1)) as threads:
        searches = [
            threads.submit(_rate, request.seeds, replace(evaluator), design, progress)
            for design in designs
        ]
        return [search.result() for search in searches]


def _prepared(request: Request) -> tuple[Catalog, Evaluator]:
    """What all trials share. Raises UserError for bad files, and for what has no sense."""
    for where, value, least, most in (
        ("--rate", request.rate if request.rate is not None else 1.0, 1e-3, 1e5),
        ("--seeds", request.seeds, 1, MAX_SEEDS),
        ("--duration", request.duration_s, 1.0, 1e5),
    ):
        if not least <= value <= most:
            raise _refused(where, f"is {value:g}", f"give {least:g} to {most:g}")
    for name, budget in (
        ("--max-cost", request.budgets.dollars_per_hour),
        ("--max-power", request.budgets.power_units),
        ("--max-machines", request.budgets.machines),
    ):
        if budget is not None and not budget > 0:
            raise _refused(name, f"is {budget:g}", "give a number above zero")
    catalog = load_catalog(request.catalog)
    model = catalog.model(request.model)
    workload = Workload(load_trace(request.trace), request.duration_s)
    times = load_phase_times(request.phase_times)
    return catalog, Evaluator(request.model, model, times, workload, range(request.seeds))


def _size(
    request: Request, catalog: Catalog, evaluator: Evaluator, kind: str, progress: Progress
) -> Sized:
    """The search for one kind."""
    assert request.rate is not None
    rate = request.rate
    example = design_of(kind, 1, 1, catalog)

    def design(pair: Pair) -> Design:
        if example.splits:
            return replace(example, prompt=pair.prompt, token=pair.other)
        return replace(example, prompt=pair.other, token=0)

    def load(pair: Pair) -> float:
        value = evaluator.trial(design(pair), rate).worst.load
        progress(f"{kind}: {evaluator.simulations} simulations, at {design(pair)}")
        return value

    search = Search(
        load, _goal(example, request.objective), _limits(example, request), example.splits
    )
    best = search.best()
    if not search.tried:
        smallest = design(Pair(1, 1))
        return Sized(kind, None, smallest, Trial(()), {}, 0)
    pair = best or min(search.tried, key=lambda one: search.tried[one])
    chosen = design(pair)
    found = evaluator.trial(chosen, rate)
    more = {} if best is None else _one_more(chosen, evaluator, rate)
    return Sized(kind, chosen if best else None, chosen, found, more, evaluator.simulations)


def _one_more(design: Design, evaluator: Evaluator, rate: float) -> dict[str, float]:
    """The load with one machine more of each phase: what the next one to buy would bring."""
    if not design.splits:
        larger = {"machine": replace(design, prompt=design.prompt + 1)}
    else:
        larger = {
            "prompt": replace(design, prompt=design.prompt + 1),
            "token": replace(design, token=design.token + 1),
        }
    return {name: evaluator.trial(one, rate).worst.load for name, one in larger.items()}


def _rate(seeds: int, evaluator: Evaluator, design: Design, progress: Progress) -> Rated:
    """The highest rates of one cluster, each seed by itself."""
    rates, breaks = [], []
    for seed in range(seeds):
        rates.append(evaluator.max_rate(design, seed))
        breaks += evaluator.verdict(design, rates[-1] + 1, seed).broken
        progress(f"{design}: {rates[-1]} requests/s with seed {seed}")
    return Rated(design, tuple(rates), tuple(dict.fromkeys(breaks)), evaluator.simulations)


def _goal(design: Design, objective: Objective) -> Limit:
    """What is to be small, for each machine of the design."""
    prompt, token = design.prompt_machine, design.token_machine
    if objective == "cost":
        return Limit(prompt.dollars_per_hour, token.dollars_per_hour)
    if objective == "power":
        return Limit(prompt.power_units, token.power_units)
    return Limit(1, 1)


def _limits(design: Design, request: Request) -> list[Limit]:
    """The budgets, and the search's own bound."""
    budgets = request.budgets
    limits = [Limit(1, 1, min(budgets.machines or MOST_MACHINES, MOST_MACHINES))]
    if budgets.dollars_per_hour is not None:
        limits.append(_goal(design, "cost")._replace(most=budgets.dollars_per_hour))
    if budgets.power_units is not None:
        limits.append(_goal(design, "power")._replace(most=budgets.power_units))
    return limits


def _rank(sized: Sized, objective: Objective) -> tuple[bool, float]:
    """Cheapest first, those without a plan last."""
    design = sized.nearest
    pair = Pair(design.prompt, design.token)
    return sized.design is None, _goal(design, objective).sum_of(pair)


def _impossible(request: Request, sized: Sequence[Sized]) -> UserError:
    lines = []
    for one in sized:
        if not one.trial.verdicts:
            lines.append(f"{one.kind}: the budgets do not allow its smallest cluster")
            continue
        worst = one.trial.worst
        why = (
            f"{worst.unfinished} requests never end"
            if worst.unfinished
            else f"{worst.binding} is {worst.load:.2f} times its limit"
        )
        lines.append(f"{one.kind}: nearest was {one.nearest}, where {why}")
    return UserError(
        "plan-impossible",
        where=f"{request.rate:g} requests/s of {request.trace.name}",
        wrong="no design keeps the objectives within the budgets:\n  " + "\n  ".join(lines),
        fix="raise the budget that binds, lower --rate, or allow other --designs",
    )


def _refused(where: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-plan", where=where, wrong=wrong, fix=fix)
