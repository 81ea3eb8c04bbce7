"""The figures of our columns: highest rates, and clusters for a rate."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import floor
from statistics import fmean
from typing import Literal

from bench.paper.claims import RATE, Cheaper, Faster, Kind
from splitwise_planner.catalog import Catalog
from splitwise_planner.design import Design, parse_design
from splitwise_planner.evaluate import Evaluator
from splitwise_planner.request import Request
from splitwise_planner.sizing import Sized, goal_of, size

Way = Literal["compat", "measured", "auto"]
"""The rules of a column: the released simulator's, ours, and ours where a request may stay on one
worker because that is cheaper (`scheduling.disaggregation: Auto`)."""

SPLIT_STEP = 5
"""Prompt machines between the splits that are tried within a budget."""


@dataclass(slots=True)
class Laboratory:
    """One way on one trace; rates and clusters are computed once, however many claims ask."""

    request: Request
    catalog: Catalog
    evaluator: Evaluator
    tell: Callable[[str], None]
    _rates: dict[Design, float] = field(default_factory=dict)
    _sized: dict[str, Sized] = field(default_factory=dict)

    def rate(self, name: str) -> float:
        """The mean over the seeds of a cluster's highest rates; 0 when it keeps them at none."""
        return self._rate(parse_design(name, self.catalog))

    def best_split(self, claim: Faster) -> tuple[Design, float]:
        """The split of a claim's machines, within its budget, that serves the most."""
        best = parse_design(claim.design, self.catalog)
        most = self._rate(best)
        for design in self._splits(best, claim):
            beats = int(most) + 1
            if self.evaluator.verdict(design, beats, 0).is_met and self._rate(design) > most:
                best, most = design, self._rate(design)
        return best, most

    def sized(self, kind: str) -> Sized:
        """The cheapest cluster of a kind for the rate of iso-throughput."""
        if kind not in self._sized:
            self._sized[kind] = size(
                self.request, self.catalog, replace(self.evaluator), kind, self.tell
            )
        return self._sized[kind]

    def is_met(self, name: str) -> int:
        """On how many of the seeds a cluster keeps the objectives at the rate of iso-throughput."""
        design = parse_design(name, self.catalog)
        verdicts = [self.evaluator.verdict(design, RATE, s) for s in self.evaluator.seeds]
        return sum(verdict.is_met for verdict in verdicts)

    def _rate(self, design: Design) -> float:
        if design not in self._rates:
            self.tell(f"{self.request.mode}: highest rate of {design}")
            rates = [self.evaluator.max_rate(design, seed) for seed in self.evaluator.seeds]
            self._rates[design] = fmean(rates)
        return self._rates[design]

    def _splits(self, design: Design, claim: Faster) -> list[Design]:
        """Designs of the same machines that use the budget up, those near the claim's own first."""
        each = goal_of(design, claim.unit)
        found = []
        prompt = SPLIT_STEP
        while (token := floor((claim.budget - each.prompt * prompt) / each.other + 1e-9)) >= 1:
            found.append(replace(design, prompt=prompt, token=token))
            prompt += SPLIT_STEP
        return sorted(found, key=lambda one: abs(one.prompt - design.prompt))


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; every cell as it is printed."""

    what: str
    trace: Kind
    paper: str
    released: str
    compat: str
    measured: str
    replanned: str
    auto: str
    auto_replanned: str
    cost: str
    power: str


Laboratories = dict[tuple[Way, Kind], Laboratory]


def faster(claim: Faster, laboratories: Laboratories) -> Row:
    """A claim of throughput in our columns."""
    compat, measured = (laboratories[way, claim.trace] for way in ("compat", "measured"))
    auto, base_rate = laboratories["auto", claim.trace], measured.rate(claim.base)
    planned, conditional = (
        f"{_ratio(most, base_rate)} ({best})"
        for best, most in (measured.best_split(claim), auto.best_split(claim))
    )
    design, base = (parse_design(name, compat.catalog) for name in (claim.design, claim.base))
    return Row(
        claim.what,
        claim.trace,
        claim.paper,
        claim.released,
        _ratio(compat.rate(claim.design), compat.rate(claim.base)),
        _ratio(measured.rate(claim.design), base_rate),
        planned,
        _ratio(auto.rate(claim.design), base_rate),
        conditional,
        _change(design.dollars_per_hour / base.dollars_per_hour),
        _change(design.power_units / base.power_units),
    )


def cheaper(claim: Cheaper, laboratories: Laboratories) -> Row:
    """A claim of cost or power in our columns; there is no split but the one that is planned."""
    compat, measured = (laboratories[way, claim.trace] for way in ("compat", "measured"))
    kind, base = measured.sized(claim.kind), measured.sized(claim.base)
    auto = laboratories["auto", claim.trace].sized(claim.kind)
    return Row(
        f"70 requests/s: {claim.what} against Baseline-H100",
        claim.trace,
        claim.paper,
        claim.released,
        _less(compat.sized(claim.kind), compat.sized(claim.base), claim.unit),
        "–",
        _less(kind, base, claim.unit),
        "–",
        _less(auto, base, claim.unit),
        _less(kind, base, "cost", named=False),
        _less(kind, base, "power", named=False),
    )


def _less(one: Sized, base: Sized, unit: str, named: bool = True) -> str:
    """The change from one cluster to another, in cost or power."""
    if one.design is None or base.design is None:
        lacking = base.kind if base.design is None else one.kind
        return f"no {lacking} keeps the objectives" if named else "–"
    values = [
        design.power_units if unit == "power" else design.dollars_per_hour
        for design in (one.design, base.design)
    ]
    change = _change(values[0] / values[1])
    return f"{change} ({one.design}, {base.design})" if named else change


def _ratio(rate: float, base: float) -> str:
    """Both rates stand beside the ratio: of a base that serves nothing there is none."""
    ratio = f"{rate / base:.2f}x" if base else "no ratio"
    return f"{ratio} ({rate:g} / {base:g})"


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f} %"
