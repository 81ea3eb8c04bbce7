"""What stands in the reports of plans and simulations."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitwise_planner.charts import Line, chart
from splitwise_planner.day_report import day_parts
from splitwise_planner.design import Design
from splitwise_planner.document import Part, Table
from splitwise_planner.modes import NOTES
from splitwise_planner.outcome import Outcome
from splitwise_planner.planning import Plan, Rated
from splitwise_planner.report import faults_lines, frontier_of, placing_lines, rates_as_text
from splitwise_planner.request import Request
from splitwise_planner.simulation import Answer
from splitwise_planner.slo import OBJECTIVES
from splitwise_planner.trace import Trace

CURVE_POINTS: Final = 100
TIMELINE_POINTS: Final = 240


def plan_parts(request: Request, plan: Plan, winner: Answer) -> list[Part]:
    """A plan: the table, the choice between the kinds, and the winner at work."""
    assert request.rate is not None
    gains = ", ".join(f"+{name}: {gain:+d}" for name, gain in plan.gain_rps.items())
    found = [one.design for one in plan.sized if one.design is not None]
    best = frontier_of(plan)
    return [
        f"{request.rate:g} requests/s of {request.trace.name} on {request.model}; {request.seeds} "
        f"seeds of {request.duration_s:g} s; least {request.objective}; headroom "
        f"{request.headroom:g}, {request.spare} machines of each phase may be gone. "
        f"{NOTES[request.mode]}.",
        *placing_lines(request),
        _kinds(plan),
        *faults_lines(request, plan),
        "load: the binding objective's slowdown as a share of its limit, on the worst seed. "
        f"Requests a second that one machine more brings the first: {gains}.",
        chart(
            "Cost and power of each kind's plan",
            "$ an hour",
            "power, the catalogue's unit",
            [
                Line("", [(d.dollars_per_hour, d.power_units) for d in found], [*map(str, found)]),
                Line(
                    "none is better in cost, power and machines",
                    sorted((d.dollars_per_hour, d.power_units) for d in best),
                ),
            ],
        ),
        [["not beaten in cost, power and machines", "machines", "$/h", "power"]]
        + [_prices(design) for design in best],
        *(day_parts(plan.day) if plan.day is not None else []),
        f"# The first at work, on seed 0: {winner.design}",
        *simulation_parts(winner),
    ]


def _kinds(plan: Plan) -> Table:
    """A row for each kind, the winner first."""
    table = [["design", "machines", "$/h", "power", "binding", "load", "95 % up to", "one more"]]
    for one in plan.sized:
        if one.design is None:
            table.append(
                [one.kind, "–", "–", "–", "no cluster keeps the objectives", "–", "–", "–"]
            )
            continue
        more = ", ".join(f"+{name}: {load:.2f}" for name, load in one.next_load.items())
        upper = f"{one.trial.upper_load:.2f}" if len(one.trial.verdicts) > 1 else "one seed"
        worst = one.trial.worst
        table.append([*_prices(one.design), worst.binding, f"{worst.load:.2f}", upper, more])
    return table


def rates_parts(request: Request, rated: Sequence[Rated]) -> list[Part]:
    """The highest rates of clusters."""
    table = [["design", "machines", "$/h", "power", "requests/s, each seed", "what breaks"]]
    for one in rated:
        rates = "/".join(map(str, one.max_rates))
        table.append([*_prices(one.design), rates, ", ".join(one.breaks_first)])
    head = rates_as_text(request, rated).split("\n", 1)[0]
    return [head, *placing_lines(request), table, NOTES[request.mode]]


def simulation_parts(answer: Answer) -> list[Part]:
    """One simulation: objectives, curves of the latencies, and who was where when."""
    verdict, outcome = answer.verdict, answer.outcome
    if outcome.unfinished:
        return [f"{outcome.unfinished} requests never ended: the cluster is too small."]
    table = [["objective", "slowdown", "limit"]]
    table += [[o.name, f"{verdict.slowdown[o.name]:.3f}", f"{o.limit:g}"] for o in OBJECTIVES]
    return [
        table,
        f"Nearest to its limit: {verdict.binding}. {NOTES[answer.mode]}.",
        _curve("Time to first token", "s", outcome.ttft_s),
        _curve("Time between tokens", "ms", 1000 * outcome.tbt_s),
        _curve("End to end", "s", outcome.e2e_s),
        _timeline(outcome, answer.trace),
        *_sizes(answer),
        *_loans(answer),
        *_failures(answer),
        *_breaks(answer),
    ]


def _sizes(answer: Answer) -> list[Part]:
    """How many machines were paid for over time; nothing where pools kept their size."""
    used = answer.used
    if used is None or not used.sizes:
        return []
    began_s = used.sizes[0].at_s
    lines = []
    for name, phase in (("prompt pool", "prompt"), ("token pool", "token")):
        points: list[tuple[float, float]] = []
        for sized in used.sizes:  # a step: as many as before, until now
            at_s, machines = sized.at_s - began_s, float(getattr(sized, phase))
            points += [(at_s, points[-1][1] if points else machines), (at_s, machines)]
        lines.append(Line(name, [*points, (used.seconds, points[-1][1])]))
    return [chart("Machines of each pool", "seconds", "machines", lines)]


def _loans(answer: Answer) -> list[Part]:
    """How many workers each pool has lent over time; nothing where none has."""
    if answer.used is None or not answer.used.loans:
        return []
    began_s = float(answer.trace.arrival_s.min())
    lines = []
    for pool in ("prompt", "token"):
        own = [loan for loan in answer.used.loans if loan.pool == pool]
        changes = [(loan.from_s, 1) for loan in own] + [(loan.until_s, -1) for loan in own]
        points = [(0.0, 0.0)]
        for at_s, change in sorted(changes):
            lent = points[-1][1]
            points += [(at_s - began_s, lent), (at_s - began_s, lent + change)]
        lines.append(Line(f"{pool} workers", points))
    return [chart("Workers that serve the other phase too", "seconds", "workers", lines)]


def _failures(answer: Answer) -> list[Part]:
    """When machines were gone; nothing where none was."""
    if answer.used is None or not answer.used.failures:
        return []
    began_s = float(answer.trace.arrival_s.min())
    rows = [["machine", "phase", "gone at, s", "back at, s"]]
    for one in answer.used.failures:
        is_prompt = one.machine < answer.design.prompt
        phase = ("prompts" if is_prompt else "tokens") if answer.design.splits else "both"
        times = (f"{at_s - began_s:.1f}" for at_s in (one.at_s, one.back_s))
        rows.append([str(one.machine), phase, *times])
    said = (
        f"Machines that failed. {answer.used.retries} times a request began again elsewhere, with "
        f"the tokens that its client had; {answer.used.given_up} were given up."
    )
    return [said, rows]


def _breaks(answer: Answer) -> list[Part]:
    """When links were broken; nothing where none was."""
    if answer.used is None or not answer.used.breaks:
        return []
    began_s = float(answer.trace.arrival_s.min())
    rows = [["from prompt machine", "to token machine", "broke at, s", "worked again at, s"]]
    for one in answer.used.breaks:
        times = (f"{at_s - began_s:.1f}" for at_s in (one.at_s, one.works_s))
        rows.append([str(one.prompt), str(one.token), *times])
    return [f"Links that broke. {answer.used.lost_transfers} transfers were lost.", rows]


def _prices(design: Design) -> list[str]:
    return [
        str(design),
        str(design.machines),
        f"{design.dollars_per_hour:.2f}",
        f"{design.power_units:.1f}",
    ]


def _curve(name: str, unit: str, values: NDArray[np.float64]) -> str:
    percents = np.linspace(0, 99, CURVE_POINTS)
    points = list(zip(percents.tolist(), np.percentile(values, percents).tolist()))
    return chart(f"{name} by percentile", "percent of requests", unit, [Line("", points)])


def _timeline(outcome: Outcome, trace: Trace) -> str:
    """How many requests wait for their first token, and how many for the others."""
    order = np.argsort(trace.request_id)
    rows = order[np.searchsorted(trace.request_id, outcome.request_id, sorter=order)]
    came = trace.arrival_s[rows]
    first, ended = came + outcome.ttft_s, came + outcome.e2e_s
    times = np.linspace(came.min(), ended.max(), TIMELINE_POINTS)

    def between(begin: NDArray[np.float64], end: NDArray[np.float64]) -> list[tuple[float, float]]:
        came_by, gone_by = (np.searchsorted(np.sort(at), times, "right") for at in (begin, end))
        inside = came_by - gone_by
        return list(zip((times - times[0]).tolist(), inside.astype(float).tolist()))

    lines = [Line("prompt pool", between(came, first)), Line("token pool", between(first, ended))]
    return chart("Requests in each pool", "seconds", "requests", lines)
