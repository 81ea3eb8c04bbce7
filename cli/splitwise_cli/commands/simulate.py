"""`splitwise simulate`: what becomes of a trace on a cluster that is not there."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from splitwise_core.errors import UserError


def simulate(
    model: str,
    design: str,
    trace: Path,
    outputs: tuple[Path | None, Path | None],
    mode: Literal["compat", "measured"],
    files: tuple[Path | None, Path | None],
    changes: tuple[tuple[float | None, float, int], tuple[str | None, float]],
    as_json: bool,
) -> bool:
    """Prints the answer; whether every request ended. Raises UserError.

    `changes`: hours between failures of a machine, or None for none, minutes that one lasts, and a
    seed; and the least that pools may shrink to, or None, and seconds until a machine serves.
    """
    need_planner("splitwise simulate")
    from splitwise_planner import catalog as shipped
    from splitwise_planner import phase_times as published
    from splitwise_planner.measured.failures import faults_of
    from splitwise_planner.simulation import Question, answer

    if mode == "compat":
        tell_of_compiling()
    catalog, phase_times = files[0] or shipped.SHIPPED, files[1] or published.PUBLISHED
    out, report = outputs
    faults, (least, start_s) = faults_of(*changes[0]), changes[1]
    asked = Question(model, design, trace, catalog, phase_times, out, mode, faults, least, start_s)
    found = answer(asked)
    if report is not None:
        from splitwise_planner.document import write_report
        from splitwise_planner.page import simulation_parts

        write_report(report, f"{trace.name} on {design}", simulation_parts(found))
    print(json.dumps(found.as_dict(), indent=2) if as_json else found.as_text(), end="")
    return not found.outcome.unfinished


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
