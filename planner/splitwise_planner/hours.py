"""A day of the winner: the machines that each hour needs, and what pools that follow it save.

Where hours differ in nothing but their rates they are sized from the busiest on, each within the
cluster of the one before: no pool grows as the load goes down, and there are few clusters to try.
By chance the draws of one rate may ask for more of a phase than those of a higher one. Then as many
as the winner has are tried, then one more, and after that any; and the higher rate gets as many.
Hours with sizes of their own may need more of one phase and less of the other: each is sized by
itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal

from splitwise_core.errors import UserError
from splitwise_planner.day import HOURS, Day, Load
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


@dataclass(frozen=True)
class DayPlan:
    """24 hours of one kind of design; what its pools have to have at which time."""

    day: Day
    hours: tuple[Hour, ...]
    start_s: float
    simulations: int

    def schedule(self, phase: Phase) -> Schedule:
        """The least machines of a phase; those that do both are counted as prompt machines."""
        return self._schedules[phase]

    @cached_property
    def _schedules(self) -> dict[Phase, Schedule]:
        hourly = {phase: [int(getattr(h.design, phase)) for h in self.hours] for phase in PHASES}
        return {phase: schedule_of(hourly[phase], self.start_s) for phase in PHASES}

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
    asked = sorted(set(day.loads), key=day.tokens_per_s)
    others = {load: replace(evaluator, simulations=0, hour=load.hour) for load in asked}
    found = {day.busiest: Hour(day.peak, winner.design, winner.trial)}
    last = winner.design

    def loads_at(load: Load) -> Loads:
        def tell(text: str) -> None:
            progress(len(found), len(asked), f"{load.rate:g} requests/s: {text}")

        return Loads(request, others[load], winner.nearest, load.rate, tell)

    for load in reversed(asked):
        if load not in found:
            known = () if day.sizes else (last, winner.design, *larger(winner.design).values())
            found[load] = _least(request, loads_at(load), load.rate, known)
            last = found[load].design
    for lower, load in pairwise(asked) if not day.sizes else ():
        found[load] = _raised(loads_at(load), found[load], found[lower])
    hours = tuple(found[load] for load in day.loads)
    _check(request, day, hours)
    simulations = sum(one.simulations for one in others.values())
    return DayPlan(day, hours, request.start_s, simulations)


def _least(request: Request, loads: Loads, rate: float, known: Sequence[Design]) -> Hour:
    """The least cluster for a rate: within the first of those known that can do it, else of all.
    Where none is good it is the nearest, as its trial says."""
    if rate == 0:
        least = 1 + request.spare
        return Hour(rate, loads.of(Pair(least, least)), Trial(()))
    pairs = map(_pair, known)
    bounds = (*dict.fromkeys(bound for bound in pairs if loads.allows(bound)), None)
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
