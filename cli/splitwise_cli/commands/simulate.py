"""`splitwise simulate`: what becomes of a trace on a cluster that is not there."""

import json
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from splitwise_core.errors import UserError

if TYPE_CHECKING:  # numba and numpy are loaded when a simulation is asked for
    from splitwise_planner.simulation import Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked. `mtbf_hours` is None where no machine fails, `link_mtbf_hours` where no
    link does, `least` where pools keep their size; the files that are None come along."""

    model: str
    design: str
    trace: Path
    out: Path | None
    report: Path | None
    mode: Literal["compat", "measured"]
    mtbf_hours: float | None
    repair_minutes: float
    link_mtbf_hours: float | None
    link_repair_minutes: float
    seed: int
    least: str | None
    start_s: float
    borrowing: bool
    prefix_caching: bool
    disaggregation: Literal["Always", "Auto", "Never"]
    catalog: Path | None
    phase_times: Path | None


def simulate(options: Options, as_json: bool) -> bool:
    """Prints the answer; whether every request ended. Raises UserError."""
    need_planner("splitwise simulate")
    from splitwise_planner.simulation import answer

    if options.mode == "compat":
        tell_of_compiling()
    found = answer(_question(options))
    if options.report is not None:
        from splitwise_planner.document import write_report
        from splitwise_planner.page import simulation_parts

        title = f"{options.trace.name} on {options.design}"
        write_report(options.report, title, simulation_parts(found))
    print(json.dumps(found.as_dict(), indent=2) if as_json else found.as_text(), end="")
    return not found.outcome.unfinished


def _question(options: Options) -> "Question":
    from splitwise_core.policy.mixing import Disaggregation
    from splitwise_planner import catalog, phase_times
    from splitwise_planner.measured.failures import faults_of
    from splitwise_planner.modes import Scheduling
    from splitwise_planner.simulation import Question

    hours, minutes = options.link_mtbf_hours, options.link_repair_minutes
    return Question(
        model=options.model,
        design=options.design,
        trace=options.trace,
        catalog=options.catalog or catalog.SHIPPED,
        phase_times=options.phase_times or phase_times.PUBLISHED,
        out=options.out,
        mode=options.mode,
        faults=faults_of(options.mtbf_hours, options.repair_minutes, options.seed),
        link_faults=faults_of(hours, minutes, options.seed, "--link-"),
        least=options.least,
        start_s=options.start_s,
        scheduling=Scheduling(
            options.borrowing, options.prefix_caching, Disaggregation(options.disaggregation)
        ),
    )


def need_planner(command: str) -> None:
    """Raises UserError (environment) where the planner's packages lack."""
    if find_spec("numba") is None:
        raise UserError(
            "environment",
            where=command,
            wrong="numba is not installed",
            fix="pip install 'splitwise[planner]'",
        )


def tell_of_compiling() -> None:
    """Says on stderr why the first run takes its time."""
    from splitwise_planner.compat.engine import is_compiled

    if not is_compiled():
        sys.stderr.write("compiling the simulator, once for this version: about half a minute\n")
