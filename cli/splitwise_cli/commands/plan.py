"""`splitwise plan`: the cheapest clusters that keep the objectives, or what clusters can do."""

import json
import sys
from pathlib import Path
from typing import Literal

from splitwise_cli.commands.simulate import need_planner, tell_of_compiling
from splitwise_core.errors import UserError


def plan(
    model: str,
    trace: Path,
    designs: str,
    rate: float | None,
    objective: Literal["cost", "power", "machines"],
    budgets: tuple[float | None, float | None, int | None],
    seeds: int,
    duration_s: float,
    files: tuple[Path | None, Path | None],
    as_json: bool,
) -> None:
    """Prints the plans, or without a rate the highest rates. Raises UserError."""
    need_planner("splitwise plan")
    from splitwise_planner import catalog, phase_times, planning, report

    asked = planning.Request(
        model=model,
        trace=trace,
        designs=_names(designs),
        rate=rate,
        objective=objective,
        budgets=planning.Budgets(*budgets),
        seeds=seeds,
        duration_s=duration_s,
        catalog=files[0] or catalog.SHIPPED,
        phase_times=files[1] or phase_times.PUBLISHED,
    )
    tell_of_compiling()
    if rate is not None:
        plans = planning.plan(asked, _progress)
        text, found = report.plan_as_text(asked, plans), report.plan_as_dict(asked, plans)
    else:
        rated = planning.rate(asked, _progress)
        text, found = report.rates_as_text(asked, rated), report.rates_as_dict(asked, rated)
    _progress("")
    print(json.dumps(found, indent=2) if as_json else text.rstrip("\n"))


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


def _progress(text: str) -> None:
    """One line on a terminal, written over again and again; nothing into files."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text[:100]}")
        sys.stderr.flush()
