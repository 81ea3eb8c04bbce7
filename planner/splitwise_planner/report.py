"""What a plan says: as JSON for scripts, as a table for people."""

from collections.abc import Sequence
from math import isfinite
from statistics import fmean
from typing import Any

from splitwise_planner.day_report import day_as_dict, day_as_text
from splitwise_planner.design import Design, cluster_as_dict
from splitwise_planner.measured.failures import told_of
from splitwise_planner.modes import NOTES
from splitwise_planner.planning import Plan, Rated, Request, Sized
from splitwise_planner.sizing import frontier
from splitwise_planner.slo import OBJECTIVES


def plan_as_dict(request: Request, plan: Plan) -> dict[str, Any]:
    """The whole answer; the first of `plans` is the winner."""
    return {
        "model": request.model,
        "trace": str(request.trace),
        "rate": request.rate,
        "seeds": request.seeds,
        "duration_s": request.duration_s,
        "objective": request.objective,
        "mode": request.mode,
        "disaggregation": request.scheduling.disaggregation.value,
        "headroom": request.headroom,
        "spare": request.spare,
        **faults_as_dict(request),
        "objectives": {objective.name: objective.limit for objective in OBJECTIVES},
        "simulations": sum(one.simulations for one in plan.sized),
        "plans": [_sized(one) for one in plan.sized],
        "gain_rps_with_one_more": plan.gain_rps,
        "frontier": [cluster_as_dict(design) for design in frontier_of(plan)],
        "day": day_as_dict(plan.day) if plan.day is not None else None,
    }


def faults_as_dict(request: Request) -> dict[str, Any]:
    """How machines fail; null where they do not."""
    faults = request.faults
    return {
        "mtbf_hours": faults.mtbf_s / 3600 if faults is not None else None,
        "repair_minutes": faults.repair_s / 60 if faults is not None else None,
    }


def frontier_of(plan: Plan) -> list[Design]:
    """Of all clusters that were tried and are good, those that none beats in everything."""
    return frontier([design for one in plan.sized for design in one.good])


def rates_as_dict(request: Request, rated: Sequence[Rated]) -> dict[str, Any]:
    """The highest rates, in requests a second."""
    return {
        "model": request.model,
        "trace": str(request.trace),
        "seeds": request.seeds,
        "duration_s": request.duration_s,
        "mode": request.mode,
        "disaggregation": request.scheduling.disaggregation.value,
        **faults_as_dict(request),
        "clusters": [
            {
                **cluster_as_dict(one.design),
                "max_rates": list(one.max_rates),
                "mean_max_rate": round(fmean(one.max_rates), 2),
                "breaks_first": list(one.breaks_first),
                "simulations": one.simulations,
            }
            for one in rated
        ],
    }


def plan_as_text(request: Request, plan: Plan) -> str:
    """A table: a row for each kind, the winner first."""
    assert request.rate is not None
    lines = [
        f"{request.rate:g} requests/s of {request.trace.name} on {request.model}, "
        f"{request.seeds} seeds of {request.duration_s:g} s, least {request.objective}",
        *placing_lines(request),
        "",
        f"{'design':<18}{'machines':>9}{'$/h':>11}{'power':>9}  {'binding':<10}{'load':>6}"
        f"{'95 % up to':>12}  one more",
    ]
    lines += [_row(one) for one in plan.sized]
    if request.headroom > 1 or request.spare:
        lines.append(
            f"each keeps the objectives at {request.rate * request.headroom:g} requests/s, with "
            f"{request.spare} machines of each phase gone"
        )
    lines += faults_lines(request, plan)
    gains = ", ".join(f"+{name}: {gain:+d} requests/s" for name, gain in plan.gain_rps.items())
    lines += ["", f"one machine more of the first: {gains}"]
    if request.frontier:
        lines += ["", "none is better in cost, power and machines than:"]
        lines += [_columns(design) for design in frontier_of(plan)]
    count = sum(one.simulations for one in plan.sized)
    note = "load: the binding objective's slowdown as a share of its limit, on the worst seed"
    lines += ["", f"{note}; {count} simulations", NOTES[request.mode], ""]
    if plan.day is not None:
        lines.append(day_as_text(plan.day))
    return "\n".join(lines)


def placing_lines(request: Request) -> list[str]:
    """How requests are placed; nothing in compat mode, where the phases always part."""
    if request.mode == "compat":
        return []
    return [f"requests are placed with disaggregation: {request.scheduling.disaggregation}"]


def faults_lines(request: Request, plan: Plan) -> list[str]:
    """That objectives hold although machines fail, and how many did; nothing where none may."""
    faults, winner = request.faults, plan.sized[0]
    if faults is None:
        return []
    failures, draws = winner.trial.failures, len(winner.trial.verdicts)
    lines = [
        f"each keeps the objectives while machines fail, {told_of(faults)}",
        f"machines of {winner.nearest} that failed in its {draws} draws: {failures}",
    ]
    if failures < draws:
        one_each_s = faults.mtbf_s / winner.nearest.machines
        lines.append(f"for one in each draw, on average, give --duration {one_each_s:.0f}")
    return lines


def rates_as_text(request: Request, rated: Sequence[Rated]) -> str:
    """A table: a row for each cluster."""
    faults = request.faults
    failing = "" if faults is None else f"; machines fail, {told_of(faults)}"
    lines = [
        f"highest rate of {request.trace.name} on {request.model}, {request.seeds} seeds of "
        f"{request.duration_s:g} s, in requests/s{failing}",
        *placing_lines(request),
        "",
        f"{'design':<18}{'machines':>9}{'$/h':>11}{'power':>9}{'mean':>8}  each seed; what breaks",
    ]
    for one in rated:
        rates = "/".join(map(str, one.max_rates))
        breaks = ", ".join(one.breaks_first)
        lines.append(f"{_columns(one.design)}{fmean(one.max_rates):>8.1f}  {rates}; {breaks}")
    return "\n".join([*lines, ""])


def _row(one: Sized) -> str:
    if one.design is None:
        return f"{one.kind:<18}no cluster within the budgets keeps the objectives"
    worst = one.trial.worst
    upper = f"{one.trial.upper_load:.2f}" if len(one.trial.verdicts) > 1 else "one seed"
    more = ", ".join(f"+{name}: {load:.2f}" for name, load in one.next_load.items())
    return _columns(one.design) + f"  {worst.binding:<10}{worst.load:>6.2f}{upper:>12}  {more}"


def _columns(design: Design) -> str:
    return (
        f"{design!s:<18}{design.machines:>9}{design.dollars_per_hour:>11.2f}"
        f"{design.power_units:>9.1f}"
    )


def _sized(one: Sized) -> dict[str, Any]:
    if one.design is None:
        tried = {} if not one.trial.verdicts else {"nearest": cluster_as_dict(one.nearest)}
        return {"kind": one.kind, "feasible": False, **tried, "simulations": one.simulations}
    worst = one.trial.worst
    return {
        "kind": one.kind,
        "feasible": True,
        **cluster_as_dict(one.design),
        "binding": worst.binding,
        "load": worst.load,
        "load_upper_95": _finite(one.trial.upper_load),
        "slowdowns": [verdict.slowdown for verdict in one.trial.verdicts],
        "load_with_one_more": {name: _finite(load) for name, load in one.next_load.items()},
        "failures": one.trial.failures,
        "simulations": one.simulations,
    }


def _finite(load: float) -> float | None:
    """JSON has no infinity: null stands for a load without bound."""
    return load if isfinite(load) else None
