"""`splitwise simulate`: what becomes of a trace on a cluster that is not there."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

from splitwise_core.errors import UserError


def simulate(
    model: str,
    design: str,
    trace: Path,
    out: Path | None,
    catalog: Path | None,
    phase_times: Path | None,
    as_json: bool,
) -> bool:
    """Prints the answer; whether every request ended. Raises UserError."""
    need_planner("splitwise simulate")
    from splitwise_planner import catalog as shipped
    from splitwise_planner import phase_times as published
    from splitwise_planner.simulation import Question, answer

    tell_of_compiling()
    files = catalog or shipped.SHIPPED, phase_times or published.PUBLISHED
    found = answer(Question(model, design, trace, *files, out))
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
