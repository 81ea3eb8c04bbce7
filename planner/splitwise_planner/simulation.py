"""`splitwise simulate`: one trace on one design, and how it stands to the objectives."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitwise_planner.catalog import load_catalog
from splitwise_planner.compat.engine import rules_for, simulate
from splitwise_planner.design import Design, parse_design
from splitwise_planner.outcome import Outcome, percentiles, write_requests
from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.slo import OBJECTIVES, Verdict, judge, reference_for
from splitwise_planner.trace import load_trace


@dataclass(frozen=True, slots=True)
class Question:
    """What to simulate. `catalog` and `phase_times` are files, `out` where each request goes."""

    model: str
    design: str
    trace: Path
    catalog: Path
    phase_times: Path
    out: Path | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a trace on a design."""

    design: Design
    outcome: Outcome
    verdict: Verdict

    def as_dict(self) -> dict[str, Any]:
        """For scripts: latencies in seconds, slowdowns as ratios."""
        return {
            "design": str(self.design),
            "machines": self.design.machines,
            "dollars_per_hour": round(self.design.dollars_per_hour, 2),
            "power_units": round(self.design.power_units, 2),
            "requests": len(self.outcome.request_id) + self.outcome.unfinished,
            "unfinished": self.outcome.unfinished,
            "latency": percentiles(self.outcome),
            "slowdown": self.verdict.slowdown,
            "objectives": {objective.name: objective.limit for objective in OBJECTIVES},
            "met": self.verdict.is_met,
            "broken": self.verdict.broken,
            "binding": self.verdict.binding,
        }

    def as_text(self) -> str:
        """For people."""
        found = self.as_dict()
        head = (
            f"{found['design']}: {found['machines']} machines, ${found['dollars_per_hour']:.2f}/h, "
            f"power {found['power_units']:g}\n"
        )
        if self.outcome.unfinished:
            return head + (
                f"{self.outcome.unfinished} of {found['requests']} requests never ended: the "
                "cluster is too small, or a request is too long for a machine's memory\n"
            )
        lines = [f"{'':6}{'p50':>10}{'p90':>10}{'p99':>10}   slowdown against its limit"]
        for name, scale, unit in (("ttft", 1.0, "s"), ("tbt", 1e3, "ms"), ("e2e", 1.0, "s")):
            times = found["latency"][f"{name}_s"].values()
            own = [objective for objective in OBJECTIVES if objective.latency == name]
            lines.append(
                f"{name:6}"
                + "".join(f"{value * scale:>7.3f} {unit:2}" for value in times)
                + "   "
                + "  ".join(f"{self.verdict.slowdown[o.name]:.2f}/{o.limit:g}" for o in own)
            )
        verdict = (
            "all nine objectives hold" if found["met"] else f"broken: {', '.join(found['broken'])}"
        )
        return head + "\n".join(lines) + f"\n{verdict}; nearest to its limit: {found['binding']}\n"


def answer(question: Question) -> Answer:
    """Simulates, and writes each request where the question says. Raises UserError."""
    catalog = load_catalog(question.catalog)
    model = catalog.model(question.model)
    design = parse_design(question.design, catalog)
    times = load_phase_times(question.phase_times)
    rules = rules_for(times, question.model, model, design)
    reference = reference_for(times, question.model, model)
    outcome = simulate(load_trace(question.trace), design, rules)
    if question.out is not None:
        write_requests(outcome, question.out)
    return Answer(design, outcome, judge(outcome, reference))
