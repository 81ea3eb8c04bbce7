"""`python -m bench.paper CONV.csv CODE.csv`: the paper's claims, computed again, as a table.

CONV and CODE are the Azure LLM inference traces of November 2023. A line is printed as soon as it
is known; with `--notes DIR` what was simulated is kept, and a run that was broken off goes on. More
seconds and seeds take longer: the released notebooks have 600 s. `--json` writes the rows.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Final

from bench.paper.claims import CHEAPER, FASTER, RATE, STARRED, Kind
from bench.paper.compute import Laboratories, Laboratory, Row, Way, cheaper, faster
from splitwise_core.policy.mixing import Disaggregation
from splitwise_planner import catalog, phase_times
from splitwise_planner.modes import AS_SPECIFIED, Scheduling
from splitwise_planner.request import Budgets, Request, prepared

MODEL = "bloom-176b"
WAYS: Final[tuple[Way, ...]] = ("compat", "measured", "auto")
KINDS: Final[tuple[Kind, ...]] = ("conv", "code")
CONDITIONAL: Final = Scheduling(disaggregation=Disaggregation.AUTO)

HEAD = (
    "| | trace | paper | released simulator | ours, compat | ours, measured, paper's split "
    "| ours, measured, re-planned | paper's split, `Auto` | re-planned, `Auto` | Δcost | Δpower "
    f"|\n|{'---|' * 11}"
)


def laboratories(arguments: argparse.Namespace, stack: ExitStack) -> Laboratories:
    """Each way on both traces."""
    found: Laboratories = {}
    for way in WAYS:
        for kind in KINDS:
            request = Request(
                model=MODEL,
                trace=arguments.conv if kind == "conv" else arguments.code,
                designs=[],
                rate=RATE,
                objective="cost",
                budgets=Budgets(machines=arguments.most),
                seeds=arguments.seeds,
                duration_s=arguments.seconds,
                catalog=catalog.SHIPPED,
                phase_times=phase_times.PUBLISHED,
                mode="compat" if way == "compat" else "measured",
                resume=arguments.notes and arguments.notes / f"{way}-{kind}.jsonl",
                scheduling=CONDITIONAL if way == "auto" else AS_SPECIFIED,
            )
            ready = stack.enter_context(prepared(request))
            found[way, kind] = Laboratory(request, *ready, _tell)
    return found


def rows(known: Laboratories) -> Iterator[Row]:
    """Every claim, those of throughput first."""
    for claim in FASTER:
        yield faster(claim, known)
    for less in CHEAPER:
        yield cheaper(less, known)
    compat, measured, auto = (known[way, "code"] for way in WAYS)
    seeds = len(compat.evaluator.seeds)
    yield Row(
        f"70 requests/s: {STARRED} keeps all objectives (figure 12)",
        "code",
        "yes",
        "5 of 5 seeds",
        f"{compat.is_met(STARRED)} of {seeds} seeds",
        f"{measured.is_met(STARRED)} of {seeds} seeds",
        f"least cost: {measured.sized('HH').design}",
        f"{auto.is_met(STARRED)} of {seeds} seeds",
        f"least cost: {auto.sized('HH').design}",
        "–",
        "–",
    )


def _tell(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text[:100]}")


def main() -> None:
    """Computes and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.paper")
    parser.add_argument("conv", type=Path)
    parser.add_argument("code", type=Path)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--most", type=int, default=200, help="machines of a cluster, at most")
    parser.add_argument(
        "--notes", type=Path, help="a directory, which is made when it is not there"
    )
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.notes:
        arguments.notes.mkdir(parents=True, exist_ok=True)
    found = []
    print(HEAD, flush=True)
    with ExitStack() as stack:
        for row in rows(laboratories(arguments, stack)):
            found.append(row)
            print("| " + " | ".join(asdict(row).values()) + " |", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n")


if __name__ == "__main__":
    main()
