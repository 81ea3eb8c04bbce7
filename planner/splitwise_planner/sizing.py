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


class Loads:
    """The load of a kind's pairs at a rate, with `spare` machines of each phase gone; each pair is
    tried once. `trials` has what came of them, and none of pairs of which nothing would be left."""

    def __init__(
        self,
        request: Request,
        evaluator: Evaluator,
        example: Design,
        rate: float,
        progress: Callable[[str], None],
    ) -> None:
        self.trials: dict[Pair, Trial] = {}
        self.evaluator = evaluator
        self._request = request
        self._example = example
        self._rate = rate * request.headroom
        self._progress = progress
        self._limits = _limits(example, request)

    def __call__(self, pair: Pair) -> float:
        """The load on the worst seed."""
        left = self.left_of(pair)
        if left is None:
            return inf
        if pair not in self.trials:
            self.trials[pair] = self.evaluator.trial(left, self._rate)
            count = self.evaluator.simulations
            self._progress(f"{self.of(pair)}, simulation {count} of its kind")
        return self.trials[pair].worst.load

    def search(self, objective: Objective, within: Pair | None = None) -> Search:
        """The search for the pair that is best by an objective."""
        goal = goal_of(self._example, objective)
        return Search(self, goal, self._limits, self._example.splits, within)

    def allows(self, pair: Pair) -> bool:
        """Whether the budgets do."""
        return all(limit.sum_of(pair) <= limit.most for limit in self._limits)

    def of(self, pair: Pair) -> Design:
        """The design of the kind with so many machines."""
        if self._example.splits:
            return replace(self._example, prompt=pair.prompt, token=pair.other)
        return replace(self._example, prompt=pair.other, token=0)

    def left_of(self, pair: Pair) -> Design | None:
        """What is left when the spare machines are gone; None: not enough."""
        spare, splits = self._request.spare, self._example.splits
        left = Pair(pair.prompt - spare if splits else 0, pair.other - spare)
        enough = left.other >= 1 and (left.prompt >= 1 or not splits)
        return self.of(left) if enough else None

    def one_more(self, pair: Pair) -> dict[str, float]:
        """The load with one machine more of each phase: what the next one to buy would bring."""
        left = self.left_of(pair)
        assert left is not None, "it is good"
        more = larger(left).items()
        return {name: self.evaluator.trial(one, self._rate).worst.load for name, one in more}


def size(
    request: Request,
    catalog: Catalog,
    evaluator: Evaluator,
    kind: str,
    progress: Callable[[str], None],
) -> Sized:
    """The search for one kind."""
    assert request.rate is not None
    example = design_of(kind, 1, 1, catalog)
    loads = Loads(request, evaluator, example, request.rate, progress)
    search = loads.search(request.objective)
    best = search.best()
    if not search.tried:
        return Sized(kind, None, loads.of(Pair(1, 1)), Trial(()), {}, 0)
    if request.frontier and best is not None:
        for objective in get_args(Objective):
            loads.search(objective).best()
    pair = best or min(search.tried, key=lambda one: search.tried[one])
    found = loads.trials.get(pair, Trial(()))
    more = {} if best is None else loads.one_more(best)
    good = tuple(loads.of(pair) for pair, trial in loads.trials.items() if trial.is_met)
    chosen = loads.of(pair)
    return Sized(kind, chosen if best else None, chosen, found, more, evaluator.simulations, good)


def larger(design: Design) -> dict[str, Design]:
    """The design with one machine more of each phase."""
    if not design.splits:
        return {"machine": replace(design, prompt=design.prompt + 1)}
    return {
        "prompt": replace(design, prompt=design.prompt + 1),
        "token": replace(design, token=design.token + 1),
    }


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
