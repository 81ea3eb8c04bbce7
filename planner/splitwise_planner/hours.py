"""A day of the winner: the machines that each hour needs, and what pools that follow it save.

Hours are sized from the busiest on, each within the cluster of the one before: no pool grows as the
load goes down, and there are few clusters to try. By chance the draws of one rate may ask for more
of a phase than those of a higher one. Then as many as the winner has are tried, then one more, and
after that any; and the higher rate gets as many.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

from splitwise_core.errors import UserError
from splitwise_planner.day import HOURS, Day
from splitwise_planner.design import Design
from splitwise_planner.evaluate import Evaluator, Trial
from splitwise_planner.request import Request
from splitwise_planner.schedule import Schedule, schedule_of
from splitwise_planner.search import Pair
from splitwise_planner.sizing import Loads, Sized, larger

Phase = Literal["prompt", "token"]

PHASES: Final[tuple[Phase, ...]] = ("prompt", "token")


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour's rate, the least cluster for it, and how that did on all seeds; no verdicts where
    nobody asks."""

    rate: float
    design: Design
    trial: Trial


@dataclass(frozen=True, slots=True)
class DayPlan:
    """24 hours of one kind of design; what its pools have to have at which time."""

    day: Day
    hours: tuple[Hour, ...]
    start_s: float
    simulations: int

    def schedule(self, phase: Phase) -> Schedule:
        """The least machines of a phase; those that do both are counted as prompt machines."""
        hourly = [int(getattr(hour.design, phase)) for hour in self.hours]
        return schedule_of(hourly, self.start_s)

    @property
    def most(self) -> Design:
        """The cluster that can do each hour: the most machines of each phase."""
        prompt, token = self.schedule("prompt").most, self.schedule("token").most
        return replace(self.hours[0].design, prompt=prompt, token=token)

    @property
    def least(self) -> Design:
        """The fewest machines of each phase."""
        prompt, token = self.schedule("prompt").least, self.schedule("token").least
        return replace(self.hours[0].design, prompt=prompt, token=token)

    @property
    def machine_hours(self) -> dict[Phase, float]:
        """Of a day with the least machines that the schedules allow."""
        return {
            "prompt": self.schedule("prompt").machine_hours,
            "token": self.schedule("token").machine_hours,
        }

    @property
    def dollars(self) -> float:
        """What those cost."""
        hours, one = self.machine_hours, self.hours[0].design
        return (
            hours["prompt"] * one.prompt_machine.dollars_per_hour
            + hours["token"] * one.token_machine.dollars_per_hour
        )

    @property
    def dollars_at_peak(self) -> float:
        """What a day costs with the most machines at all times."""
        return HOURS * self.most.dollars_per_hour

    @property
    def saved_share(self) -> float:
        """Of what a day costs with the most machines, what the schedules save."""
        return 1 - self.dollars / self.dollars_at_peak


def size_day(
    request: Request,
    day: Day,
    evaluator: Evaluator,
    winner: Sized,
    progress: Callable[[int, int, str], None],
) -> DayPlan:
    """The least cluster of the winner's kind for each hour. Raises UserError (plan-impossible)
    naming the hours that none can do."""
    assert winner.design is not None
    rates = sorted(set(day.rates))
    own = replace(evaluator, simulations=0)
    found = {day.peak: Hour(day.peak, winner.design, winner.trial)}
    last = winner.design

    def loads_at(rate: float) -> Loads:
        def tell(text: str) -> None:
            progress(len(found), len(rates), f"{rate:g} requests/s: {text}")

        return Loads(request, own, winner.nearest, rate, tell)

    for rate in rates[-2::-1]:
        found[rate] = _least(request, loads_at(rate), rate, last, winner.design)
        last = found[rate].design
    for lower, rate in pairwise(rates):
        found[rate] = _raised(loads_at(rate), found[rate], found[lower])
    hours = tuple(found[rate] for rate in day.rates)
    _check(request, day, hours)
    return DayPlan(day, hours, request.start_s, own.simulations)


def _least(request: Request, loads: Loads, rate: float, last: Design, winner: Design) -> Hour:
    """The least cluster for a rate: within the last one, else within the winner, else with a
    machine more, else of all. Where none is good it is the nearest, as its trial says."""
    if rate == 0:
        least = 1 + request.spare
        return Hour(rate, loads.of(Pair(least if winner.splits else 0, least)), Trial(()))
    known = map(_pair, (last, winner, *larger(winner).values()))
    bounds = (*dict.fromkeys(bound for bound in known if loads.allows(bound)), None)
    searches = (loads.search(request.objective, bound) for bound in bounds)
    found = (best for search in searches if (best := search.best()) is not None)
    pair = next(found, None) or min(loads.trials, key=loads)
    return Hour(rate, loads.of(pair), loads.trials[pair])


def _raised(loads: Loads, hour: Hour, lower: Hour) -> Hour:
    """An hour with as many machines of each phase as one with less load, if that is within the
    budgets and good too."""
    own, least = _pair(hour.design), _pair(lower.design)
    pair = Pair(max(own.prompt, least.prompt), max(own.other, least.other))
    if pair == own or not loads.allows(pair) or loads(pair) >= 1:
        return hour
    return Hour(hour.rate, loads.of(pair), loads.trials[pair])


def _pair(design: Design) -> Pair:
    return Pair(design.prompt, design.token) if design.splits else Pair(0, design.prompt)


def _check(request: Request, day: Day, hours: Sequence[Hour]) -> None:
    """Raises UserError (plan-impossible) for hours whose cluster is not good enough."""
    lines = []
    for number, hour in enumerate(hours):
        if not hour.trial.is_met:
            where = f"hour {number}, {hour.rate:g} requests/s"
            lines.append(f"{where}: nearest was {hour.design}, where {hour.trial.trouble}")
    if lines:
        raise UserError(
            "plan-impossible",
            where=f"{day.name}, hours of {request.trace.name}",
            wrong=f"no {hours[0].design.kind} keeps the objectives within the budgets:\n  "
            + "\n  ".join(lines),
            fix="raise the budget that binds, or allow other --designs",
        )
