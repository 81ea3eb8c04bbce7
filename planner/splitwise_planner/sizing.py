"""The best cluster of one kind: the search over its numbers of machines, and what is near it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final, get_args

from splitwise_planner.catalog import Catalog
from splitwise_planner.design import Design, design_of
from splitwise_planner.evaluate import Evaluator, Trial
from splitwise_planner.request import Objective, Request
from splitwise_planner.search import Limit, Pair, Search

MOST_MACHINES: Final = 512
"""The search's own bound, where no budget is tighter."""


@dataclass(frozen=True, slots=True)
class Sized:
    """The best cluster of a kind: `trial` has all seeds; `next_load` is the load with one machine
    more of each phase. `design` is None when none was good enough, and `trial` then the nearest.
    `good` are all clusters that were tried and keep the objectives."""

    kind: str
    design: Design | None
    nearest: Design
    trial: Trial
    next_load: dict[str, float]
    simulations: int
    good: tuple[Design, ...] = ()


def size(
    request: Request,
    catalog: Catalog,
    evaluator: Evaluator,
    kind: str,
    progress: Callable[[str], None],
) -> Sized:
    """The search for one kind."""
    assert request.rate is not None
    rate = request.rate * request.headroom
    example = design_of(kind, 1, 1, catalog)
    loads: dict[Pair, float] = {}

    def load(pair: Pair) -> float:
        if pair not in loads:
            left = _without(pair, request.spare, example)
            if left is None:
                loads[pair] = inf
            else:
                loads[pair] = evaluator.trial(_of(example, left), rate).worst.load
            progress(f"{_of(example, pair)}, simulation {evaluator.simulations} of its kind")
        return loads[pair]

    search = Search(
        load, goal_of(example, request.objective), _limits(example, request), example.splits
    )
    best = search.best()
    if not search.tried:
        smallest = _of(example, Pair(1, 1))
        return Sized(kind, None, smallest, Trial(()), {}, 0)
    if request.frontier and best is not None:
        for objective in get_args(Objective):
            goal = goal_of(example, objective)
            Search(load, goal, _limits(example, request), example.splits).best()
    pair = best or min(search.tried, key=lambda one: search.tried[one])
    chosen = _of(example, pair)
    left = _without(pair, request.spare, example)
    found = Trial(()) if left is None else evaluator.trial(_of(example, left), rate)
    more = {} if left is None or best is None else _one_more(_of(example, left), evaluator, rate)
    good = tuple(_of(example, pair) for pair, load in loads.items() if load < 1)
    simulations = evaluator.simulations
    return Sized(kind, chosen if best else None, chosen, found, more, simulations, good)


def _of(example: Design, pair: Pair) -> Design:
    """The design of a kind with so many machines."""
    if example.splits:
        return replace(example, prompt=pair.prompt, token=pair.other)
    return replace(example, prompt=pair.other, token=0)


def _without(pair: Pair, spare: int, example: Design) -> Pair | None:
    """What is left of a cluster when `spare` machines of each phase are gone; None: not enough."""
    left = Pair(pair.prompt - spare if example.splits else 0, pair.other - spare)
    enough = left.other >= 1 and (left.prompt >= 1 or not example.splits)
    return left if enough else None


def larger(design: Design) -> dict[str, Design]:
    """The design with one machine more of each phase."""
    if not design.splits:
        return {"machine": replace(design, prompt=design.prompt + 1)}
    return {
        "prompt": replace(design, prompt=design.prompt + 1),
        "token": replace(design, token=design.token + 1),
    }


def _one_more(design: Design, evaluator: Evaluator, rate: float) -> dict[str, float]:
    """The load with one machine more of each phase: what the next one to buy would bring."""
    return {name: evaluator.trial(one, rate).worst.load for name, one in larger(design).items()}


def goal_of(design: Design, objective: Objective) -> Limit:
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
        limits.append(goal_of(design, "cost")._replace(most=budgets.dollars_per_hour))
    if budgets.power_units is not None:
        limits.append(goal_of(design, "power")._replace(most=budgets.power_units))
    return limits


def frontier(designs: Sequence[Design]) -> list[Design]:
    """Designs than which no other is as good in cost, power and machines and better in one; by
    cost."""
    prices = {design: _prices(design) for design in designs}
    kept = [
        design
        for design, price in prices.items()
        if not any(_beats(other, price) for other in prices.values())
    ]
    return sorted(kept, key=lambda design: (prices[design], str(design)))


def _prices(design: Design) -> tuple[float, float, int]:
    return round(design.dollars_per_hour, 6), round(design.power_units, 6), design.machines


def _beats(other: tuple[float, float, int], price: tuple[float, float, int]) -> bool:
    return other != price and all(a <= b for a, b in zip(other, price))
