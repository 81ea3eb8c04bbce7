"""Trials of designs on drawn traces: the same draws for all designs, one for each seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from statistics import fmean, stdev
from typing import Final

from splitwise_planner.catalog import Model
from splitwise_planner.compat.engine import rules_for, simulate
from splitwise_planner.design import Design
from splitwise_planner.phase_times import Key, Shape
from splitwise_planner.slo import Verdict, judge, reference_for
from splitwise_planner.trace import Trace
from splitwise_planner.workload import Workload

T_95: Final = (inf, 6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833)
"""Student's t at 95 %, one-sided, by degrees of freedom; more of them use the last, with care."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Verdicts of one design on several seeds, up to the first that fails."""

    verdicts: tuple[Verdict, ...]

    @property
    def is_met(self) -> bool:
        """Whether every objective held on every seed."""
        return all(verdict.is_met for verdict in self.verdicts)

    @property
    def worst(self) -> Verdict:
        """The verdict that is nearest to its limit, or furthest beyond."""
        return max(self.verdicts, key=lambda verdict: verdict.load)

    @property
    def upper_load(self) -> float:
        """The mean load's upper bound with 95 % confidence; infinite for one seed."""
        loads = [verdict.load for verdict in self.verdicts]
        if len(loads) < 2 or inf in loads:
            return inf
        t = T_95[min(len(loads), len(T_95)) - 1]
        return float(fmean(loads) + t * stdev(loads) / len(loads) ** 0.5)


@dataclass(slots=True)
class Evaluator:
    """Tries designs of a model; `simulations` counts what it ran."""

    name: str
    model: Model
    times: dict[Key, list[Shape]]
    workload: Workload
    seeds: Sequence[int]
    simulations: int = 0
    _traces: dict[tuple[float, int], Trace] = field(default_factory=dict)

    def trial(self, design: Design, rate: float) -> Trial:
        """How a design does at a rate; further seeds are tried only while all hold."""
        verdicts: list[Verdict] = []
        for seed in self.seeds:
            verdicts.append(self.verdict(design, rate, seed))
            if not verdicts[-1].is_met:
                break
        return Trial(tuple(verdicts))

    def verdict(self, design: Design, rate: float, seed: int) -> Verdict:
        """How a design does at a rate with one seed."""
        self.simulations += 1
        outcome = simulate(
            self._trace(rate, seed), design, rules_for(self.times, self.name, self.model, design)
        )
        return judge(outcome, reference_for(self.times, self.name, self.model))

    def max_rate(self, design: Design, seed: int) -> int:
        """The highest whole rate per second at which all objectives hold; 0 when none does."""
        low, high = 0, 1
        while self.verdict(design, high, seed).is_met:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if self.verdict(design, middle, seed).is_met:
                low = middle
            else:
                high = middle
        return low

    def _trace(self, rate: float, seed: int) -> Trace:
        """Drawn once: a search asks for the same one again and again."""
        if (rate, seed) not in self._traces:
            self._traces[rate, seed] = self.workload.at(rate, seed)
        return self._traces[rate, seed]
