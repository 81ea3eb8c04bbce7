"""Trials of designs on drawn traces: the same draws for all designs, one for each seed."""

import signal
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from math import inf
from statistics import fmean, stdev
from typing import Final

from splitwise_planner.catalog import Model
from splitwise_planner.design import Design
from splitwise_planner.measured.failures import Faults
from splitwise_planner.modes import AS_SPECIFIED, Mode, Scheduling, failures_in, simulation_of
from splitwise_planner.phase_times import Key, Shape
from splitwise_planner.resume import Notebook
from splitwise_planner.slo import Verdict, judge, reference_for
from splitwise_planner.trace import Trace
from splitwise_planner.workload import Workload

T_95: Final = (inf, 6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833)
"""Student's t at 95 %, one-sided, by degrees of freedom; more of them use the last, with care."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Verdicts of one design on several seeds, up to the first that fails, and how many machines
    failed in all of them."""

    verdicts: tuple[Verdict, ...]
    failures: int = 0

    @property
    def is_met(self) -> bool:
        """Whether every objective held on every seed."""
        return all(verdict.is_met for verdict in self.verdicts)

    @property
    def worst(self) -> Verdict:
        """The verdict that is nearest to its limit, or furthest beyond."""
        return max(self.verdicts, key=lambda verdict: verdict.load)

    @property
    def trouble(self) -> str:
        """What the worst seed breaks, in words."""
        worst = self.worst
        if worst.unfinished:
            return f"{worst.unfinished} requests never end"
        return f"{worst.binding} is {worst.load:.2f} times its limit"

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
    """Tries designs of a model; `simulations` counts what it asked for.

    `faults`: machines fail, at times that each seed draws; their own seed is not used. `others`
    computes elsewhere, where simulations would wait for each other here; `notebook` has
    what was tried before. `hour` is the hour of the day whose sizes are drawn, None for all.
    """

    name: str
    model: Model
    times: dict[Key, list[Shape]]
    workload: Workload
    seeds: Sequence[int]
    mode: Mode = "compat"
    faults: Faults | None = None
    scheduling: Scheduling = AS_SPECIFIED
    others: Executor | None = None
    notebook: Notebook | None = None
    hour: int | None = None
    simulations: int = 0
    _traces: dict[tuple[float, int, int | None], Trace] = field(default_factory=dict)

    def trial(self, design: Design, rate: float) -> Trial:
        """How a design does at a rate; further seeds are tried only while all hold."""
        verdicts: list[Verdict] = []
        for seeds in self._rounds():
            asked = [self._asked(design, rate, seed) for seed in seeds]
            for seed, one in zip(seeds, asked):
                verdicts.append(one if isinstance(one, Verdict) else one.result())
                self._note(design, rate, seed, verdicts[-1])
            if not all(verdict.is_met for verdict in verdicts):
                break
        failures = [self._failures(design, rate, seed) for seed in self.seeds[: len(verdicts)]]
        return Trial(tuple(verdicts), sum(failures))

    def verdict(self, design: Design, rate: float, seed: int) -> Verdict:
        """How a design does at a rate with one seed."""
        asked = self._asked(design, rate, seed)
        found = asked if isinstance(asked, Verdict) else asked.result()
        self._note(design, rate, seed, found)
        return found

    def alone(self) -> "Evaluator":
        """The same for another process: it computes there."""
        return replace(self, others=None, notebook=None, _traces={})

    def _rounds(self) -> list[Sequence[int]]:
        """Seeds that are tried side by side: the first by itself, as most designs fail on it."""
        if self.others is None:
            return [[seed] for seed in self.seeds]
        return [part for part in (self.seeds[:1], self.seeds[1:]) if part]

    def _asked(self, design: Design, rate: float, seed: int) -> "Verdict | Future[Verdict]":
        if self.notebook is not None and (
            known := self.notebook.find(design, rate, seed, self.hour)
        ):
            return known
        self.simulations += 1
        if self.others is None:
            return self.simulate(design, rate, seed)
        return self.others.submit(simulate_here, design, rate, seed, self.hour)

    def _note(self, design: Design, rate: float, seed: int, verdict: Verdict) -> None:
        if self.notebook is not None:
            self.notebook.add(design, rate, seed, self.hour, verdict)

    def simulate(self, design: Design, rate: float, seed: int) -> Verdict:
        """One simulation, here and now."""
        faults = self._faults(seed)
        run = simulation_of(
            self.mode,
            self.times,
            self.name,
            self.model,
            design,
            faults,
            scheduling=self.scheduling,
        )
        outcome, _ = run(self._trace(rate, seed))
        return judge(outcome, reference_for(self.times, self.name, self.model))

    def max_rate(self, design: Design, seed: int, known: int = 0) -> int:
        """The highest whole rate per second at which all objectives hold; 0 when none does. At the
        rate that is `known` they do."""
        low, high, step = known, known + 1, 1
        while self.verdict(design, high, seed).is_met:
            low, high, step = high, high + step, 2 * step
        while high - low > 1:
            middle = (low + high) // 2
            if self.verdict(design, middle, seed).is_met:
                low = middle
            else:
                high = middle
        return low

    def _failures(self, design: Design, rate: float, seed: int) -> int:
        """How many machines fail in a draw, which is not drawn here where none may."""
        faults = self._faults(seed)
        return 0 if faults is None else len(failures_in(self._trace(rate, seed), design, faults))

    def _faults(self, seed: int) -> Faults | None:
        return None if self.faults is None else replace(self.faults, seed=seed)

    def _trace(self, rate: float, seed: int) -> Trace:
        """Drawn once: a search asks for the same one again and again."""
        drawn = rate, seed, self.hour
        if drawn not in self._traces:
            self._traces[drawn] = self.workload.at(*drawn)
        return self._traces[drawn]


_here: Evaluator | None = None  # of a process that computes for another


def prepare(evaluator: Evaluator) -> None:
    """Makes this process ready for `simulate_here`. Ctrl-C is for the one that asks."""
    global _here
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _here = evaluator


def simulate_here(design: Design, rate: float, seed: int, hour: int | None) -> Verdict:
    """One simulation in a process that was prepared."""
    assert _here is not None
    return replace(_here, hour=hour).simulate(design, rate, seed)
