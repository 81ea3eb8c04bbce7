"""`splitwise plan`: the cheapest clusters that keep the objectives, or what clusters can do."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from splitwise_cli.commands.simulate import need_planner, tell_of_compiling
from splitwise_core.errors import UserError, writing

if TYPE_CHECKING:  # numba and numpy are loaded when a plan is asked for
    from splitwise_planner.day import Day
    from splitwise_planner.request import Request

BAR: Final = 24  # characters


@dataclass(frozen=True, slots=True)
class Options:
    """What stands on the command line. `day`: its file and time zone, and seconds until a machine
    that is added serves. `failures`: hours between those of a machine, and minutes that one lasts.
    """

    model: str
    trace: Path
    designs: str
    rate: float | None
    objective: Literal["cost", "power", "machines"]
    budgets: tuple[float | None, float | None, int | None]
    power_caps: str | None
    tensor_parallel: str | None
    headroom: float
    spare: int
    day: tuple[Path | None, str | None, float]
    failures: tuple[float | None, float]
    disaggregation: Literal["Always", "Auto", "Never"]
    seeds: int
    duration_s: float
    mode: Literal["compat", "measured"]
    frontier: bool
    resume: Path | None
    report: Path | None
    cluster: Path | None
    model_path: str | None
    catalog: Path | None
    phase_times: Path | None


def plan(options: Options, as_json: bool) -> None:
    """Prints the plans, or without a rate the highest rates. Raises UserError."""
    need_planner("splitwise plan")
    asked = _request(options)
    if options.mode == "compat":
        tell_of_compiling()
    text, answer = _planned(options, asked) if asked.rate is not None else _rated(options, asked)
    _clear()
    print(json.dumps(answer, indent=2) if as_json else text.rstrip("\n"))


def _planned(options: Options, asked: "Request") -> tuple[str, dict[str, Any]]:
    """The plan as text and as an object; its files are written."""
    from splitwise_planner import planning, report
    from splitwise_planner.document import write_report
    from splitwise_planner.page import plan_parts
    from splitwise_planner.winner import at_work, cluster_of

    if (options.cluster is None) != (options.model_path is None):
        raise UserError(
            "invalid-plan",
            where="--cluster and --model-path",
            wrong="go together",
            fix="give both: a cluster's file says where its model is",
        )
    found = planning.plan(asked, _progress)
    if options.report is not None:
        title = f"What to buy for {asked.rate:g} requests/s of {asked.trace.name}"
        write_report(options.report, title, plan_parts(asked, found, at_work(asked, found)))
    if options.cluster is not None and options.model_path is not None:
        text = cluster_of(asked, found, options.model_path)
        with writing(f"--cluster {options.cluster}"):
            options.cluster.write_text(text, "utf-8")
    return report.plan_as_text(asked, found), report.plan_as_dict(asked, found)


def _rated(options: Options, asked: "Request") -> tuple[str, dict[str, Any]]:
    """The highest rates as text and as an object; the report is written."""
    from splitwise_planner import planning, report
    from splitwise_planner.document import write_report
    from splitwise_planner.page import rates_parts

    if options.cluster is not None or options.model_path is not None:
        raise UserError(
            "invalid-plan",
            where="--cluster",
            wrong="needs a plan, and without --rate there is none",
            fix="add --rate, and name kinds in --designs",
        )
    rated = planning.rate(asked, _progress)
    if options.report is not None:
        title = f"The highest rates of {asked.trace.name}"
        write_report(options.report, title, rates_parts(asked, rated))
    return report.rates_as_text(asked, rated), report.rates_as_dict(asked, rated)


def _request(options: Options) -> "Request":
    from splitwise_core.policy.mixing import Disaggregation
    from splitwise_planner import catalog, phase_times
    from splitwise_planner.measured.failures import faults_of
    from splitwise_planner.modes import Scheduling
    from splitwise_planner.request import Budgets, Request

    day, start_s = _day(options), options.day[2]
    return Request(
        model=options.model,
        trace=options.trace,
        designs=_names(options.designs),
        rate=options.rate if day is None else day.peak,
        objective=options.objective,
        budgets=Budgets(*options.budgets),
        seeds=options.seeds,
        duration_s=options.duration_s,
        catalog=options.catalog or catalog.SHIPPED,
        phase_times=options.phase_times or phase_times.PUBLISHED,
        mode=options.mode,
        power_caps=_numbers("--power-caps", options.power_caps),
        tensor_parallel=_numbers("--tensor-parallel", options.tensor_parallel),
        headroom=options.headroom,
        spare=options.spare,
        frontier=options.frontier,
        resume=options.resume,
        day=day,
        start_s=start_s,
        faults=faults_of(*options.failures, seed=0),
        scheduling=Scheduling(disaggregation=Disaggregation(options.disaggregation)),
    )


def _day(options: Options) -> "Day | None":
    """The day that is asked for."""
    from splitwise_planner.day import load_day

    file, time_zone, _ = options.day
    if file is not None:
        return load_day(file, options.rate, time_zone or "UTC")
    if time_zone is not None:
        fix = "add --day, or leave it out"
        raise UserError("invalid-plan", where="--time-zone", wrong="is that of --day", fix=fix)
    return None


def _names(designs: str) -> list[str]:
    names = [name.strip() for name in designs.split(",") if name.strip()]
    if not names:
        raise UserError(
            "invalid-design",
            where="--designs",
            wrong="names none",
            fix="give kinds such as HH,HA, or without --rate clusters such as HH-35P-5T",
        )
    return list(dict.fromkeys(names))


def _numbers(where: str, text: str | None) -> list[int]:
    """Whole numbers with commas between."""
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() and len(part) < 4 for part in parts):
        fix = "give whole numbers, as in 8,4"
        raise UserError("invalid-plan", where=where, wrong=f"is {text!r}", fix=fix)
    return list(dict.fromkeys(map(int, parts)))


def _progress(done: int, total: int, text: str) -> None:
    """A bar on a terminal, drawn over again and again; nothing into files."""
    if sys.stderr.isatty():
        full = BAR * done // max(total, 1)
        bar = "#" * full + "." * (BAR - full)
        sys.stderr.write(f"\r\x1b[K[{bar}] {done} of {total}  {text[:70]}")
        sys.stderr.flush()


def _clear() -> None:
    if sys.stderr.isatty():
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()
