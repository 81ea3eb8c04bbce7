"""`splitwise simulate`: one trace on one design, and how it stands to the objectives."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import Design, parse_design
from splitwise_planner.measured.failures import Faults
from splitwise_planner.measured.lending import lent_by_pool
from splitwise_planner.measured.scaling import scaling_of
from splitwise_planner.measured.used import Used
from splitwise_planner.modes import AS_SPECIFIED, NOTES, Mode, Scheduling, simulation_of
from splitwise_planner.outcome import Outcome, percentiles, write_requests
from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.slo import OBJECTIVES, Verdict, judge, reference_for
from splitwise_planner.trace import Trace, load_trace


@dataclass(frozen=True, slots=True)
class Question:
    """What to simulate. `catalog` and `phase_times` are files, `out` where each request goes.

    `least`: the machines that pools may shrink to, such as 2P-1T; a new one takes `start_s`.
    """

    model: str
    design: str
    trace: Path
    catalog: Path
    phase_times: Path
    out: Path | None = None
    mode: Mode = "compat"
    faults: Faults | None = None
    link_faults: Faults | None = None
    least: str | None = None
    start_s: float = 60.0
    scheduling: Scheduling = AS_SPECIFIED


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a trace on a design."""

    design: Design
    trace: Trace
    outcome: Outcome
    verdict: Verdict
    mode: Mode
    used: Used | None

    def as_dict(self) -> dict[str, Any]:
        """For scripts: latencies in seconds, slowdowns as ratios."""
        return {
            "design": str(self.design),
            "mode": self.mode,
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
            "machine_hours": dict(zip(("prompt", "token"), self.machine_hours, strict=True)),
            "used": None if self.used is None else asdict(self.used),
            "lent": None if self.used is None else self._lent(),
            "prefix_hits": self._prefix_hits(),
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
                + "".join(f"{line}\n" for line in self._change_lines())
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
        lines.append(f"{verdict}; nearest to its limit: {found['binding']}")
        return head + "\n".join([*lines, *self._used_lines(), NOTES[self.mode]]) + "\n"

    def _used_lines(self) -> list[str]:
        """What the workers did, where that is told."""
        used = self.used
        if used is None:
            return []
        placements = ", ".join(f"{name} {count}" for name, count in used.placements.items())
        lines = [
            f"busy: prompts {used.prompt_busy:.0%}, decoding {used.token_busy:.0%}; "
            f"placed: {placements}",
        ]
        if used.joules is not None:
            requests = max(len(self.outcome.request_id), 1)
            lines.append(
                f"GPUs drew {used.joules / used.seconds / 1000:.1f} kW on average, "
                f"{used.joules / 3600 / requests:.2f} Wh a request"
            )
        if used.beyond_measured:
            lines.append(
                f"{used.beyond_measured:.0%} of the computed time was for batches beyond those "
                "that were measured"
            )
        if (hits := used.hits) is not None:
            lines.append(
                f"prefixes: {hits.compute_share:.0%} of the tokens of prompts were not computed, "
                f"{hits.transfer_share:.0%} not sent, for they were there; {hits.evicted_blocks} "
                "blocks were evicted"
            )
        if lent := self._lent():
            lines.append(
                "borrowed: "
                + ", ".join(
                    f"{one['loans']} times a {pool} worker for {one['seconds']:.1f} s in all"
                    for pool, one in lent.items()
                )
            )
        return [*lines, *self._change_lines()]

    def _lent(self) -> dict[str, dict[str, Any]]:
        """How often each pool has lent a worker, and for how many seconds in all."""
        assert self.used is not None
        return {pool: asdict(lent) for pool, lent in lent_by_pool(self.used.loans).items()}

    def _prefix_hits(self) -> dict[str, float] | None:
        """Of the tokens of prompts, what was found in caches; None where the trace has no ids."""
        if self.used is None or self.used.hits is None:
            return None
        hits = self.used.hits
        return {"compute": hits.compute_share, "transfer": hits.transfer_share}

    @property
    def machine_hours(self) -> tuple[float, float]:
        """What was paid for of each phase; machines of pools that keep their size all the time."""
        if self.used is None or not self.used.sizes:
            hours = 0.0 if self.used is None else self.used.seconds / 3600
            return self.design.prompt * hours, self.design.token * hours
        ends_s = self.used.sizes[0].at_s + self.used.seconds
        times = [*(sized.at_s for sized in self.used.sizes), ends_s]
        spans_h = [max(0.0, later - sooner) / 3600 for sooner, later in pairwise(times)]
        pairs = list(zip(self.used.sizes, spans_h, strict=True))
        return sum(s.prompt * h for s, h in pairs), sum(s.token * h for s, h in pairs)

    def _change_lines(self) -> list[str]:
        """What machines and links that failed have cost, and what pools that scaled have saved."""
        if self.used is None:
            return []
        lines = []
        if self.used.failures:
            lines.append(f"{len(self.used.failures)} times a machine failed")
        if self.used.breaks:
            lines.append(
                f"{len(self.used.breaks)} times a link broke, and {self.used.lost_transfers} "
                "transfers were lost"
            )
        if lines:
            lines.append(
                f"{self.used.retries} times a request began again, and {self.used.given_up} were "
                "given up"
            )
        if self.used.sizes:
            paid, whole = sum(self.machine_hours), self.design.machines * self.used.seconds / 3600
            most = [
                max(getattr(s, phase) for s in self.used.sizes) for phase in ("prompt", "token")
            ]
            lines.append(
                f"pools grew to {most[0]} and {most[1]} machines, and were paid for "
                f"{paid:.2f} machine-hours of {whole:.2f}"
            )
        return lines


def answer(question: Question) -> Answer:
    """Simulates, and writes each request where the question says. Raises UserError."""
    catalog = load_catalog(question.catalog)
    model = catalog.model(question.model)
    design = parse_design(question.design, catalog)
    times = load_phase_times(question.phase_times)
    scaling = scaling_of(question.least, question.start_s, design)
    simulate = simulation_of(
        question.mode,
        times,
        question.model,
        model,
        design,
        question.faults,
        scaling,
        question.scheduling,
        question.link_faults,
    )
    reference = reference_for(times, question.model, model)
    trace = load_trace(question.trace)
    outcome, used = simulate(trace)
    if question.out is not None:
        write_requests(outcome, question.out)
    return Answer(design, trace, outcome, judge(outcome, reference), question.mode, used)
