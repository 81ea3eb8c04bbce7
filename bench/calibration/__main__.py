"""`python -m bench.calibration`: what the simulator foretells of a live cluster, and what it does.

Starts the cluster of a prompt and a token worker that `bench.cluster` has, each with a core of its
own. For each load it measures a profile, while nothing else is asked for, since a machine that is
shared does not keep its speed; then draws a trace that the profile was not fitted to, simulates it
and replays it live. `--busy` are the parts of the time for which the prompt worker should compute.
Prints tables, and what others took of the machine meanwhile; the last line is one JSON object.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from bench.calibration.foretold import (
    GPU,
    LARGER,
    MODEL,
    catalogue,
    foretold,
    link_bytes_per_s,
    profiled,
)
from bench.calibration.others import since_now
from bench.cluster.__main__ import warm_up
from bench.cluster.load import bench
from bench.cluster.model import MAX_LENGTH, written
from bench.cluster.setups import DISAGGREGATED, Running, running, setups
from bench.cluster.synthetic import trace
from splitwise_cli.bench.arrivals import fitted, scaled
from splitwise_core.trace import Arrival, write_trace
from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.profile import profile_of

CORES: Final = 2
PERCENTS: Final = (50, 90)
UNDER_WAY: Final = "2,3,4,6,8"
"""Requests at a time in the profile: mostly several, for in the loads both workers compute too, and
share the memory's bandwidth."""

DRAWN: Final = 100_000
"""Requests of which the first ones make a trace: more than any takes."""

Figures = dict[str, float]


def main() -> None:
    """Measures, foretells, replays, compares."""
    asked = _parser().parse_args()
    model = written(asked.cache / "bench-23m", LARGER)
    found = []
    with ExitStack() as until_the_end:
        place = asked.keep or Path(until_the_end.enter_context(TemporaryDirectory()))
        with running(setups(CORES)[DISAGGREGATED], model, place, CORES) as cluster:
            warm_up(cluster, place)
            for seed, busy in enumerate(asked.busy):
                found.append(tried(cluster, place, asked, busy, seed))
                show(found[-1])
    print(json.dumps({"loads": found}))


def tried(
    cluster: Running, place: Path, asked: argparse.Namespace, busy: float, seed: int
) -> dict[str, Any]:
    """One load, foretold by a profile that is measured just before it, and replayed."""
    grid = ["--repeats", str(asked.repeats), "--under-way", UNDER_WAY]
    others = since_now(cluster.processes)
    times, overheads = profiled(cluster.url, place, grid)
    print(f"profile: others took {others():.1%} of the machine", flush=True)
    catalog = catalogue(place, overheads, link_bytes_per_s(cluster.url))
    load = drawn(times, busy, asked, seed)
    file, live, simulated = (place / f"{name}.csv" for name in ("trace", "live", "simulated"))
    file.write_text("".join(write_trace(load)))
    foretold(times, catalog, file, simulated)
    others = since_now(cluster.processes)
    replay = ["--trace", str(file), "--seed", str(seed), "--out", str(live)]
    report = bench(cluster.url, replay, place)
    seen = figures(live) | _tokens_seen(report)
    return compared(busy, load, report, figures(simulated), seen, others()) | overheads


def drawn(times: Path, busy: float, asked: argparse.Namespace, seed: int) -> list[Arrival]:
    """A trace of `asked.seconds` whose prompts take a part of the prompt worker's time."""
    prompts = profile_of(load_phase_times(times), MODEL, GPU, 1).prompt
    some = [fitted(a, MAX_LENGTH) for a in scaled(trace(DRAWN, seed), 1.0, asked.length_scale)]
    rate = busy / fmean(prompts.seconds(a.prompt_tokens, a.prompt_tokens) for a in some[:1000])
    return list(takewhile(lambda a: a.at_s < asked.seconds, scaled(some, 1 / rate, 1.0)))


def figures(file: Path) -> Figures:
    """Percentiles of the requests in a CSV of `simulate --out` or `bench --out`, in seconds.

    The time between tokens is each request's own mean; one of a single token has none.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [
            {name: float(cell or 0) for name, cell in row.items()} for row in csv.DictReader(lines)
        ]
    decoded = [row for row in rows if row["token_size"] > 1]
    columns = {
        "ttft": [row["ttft"] for row in rows],
        "tbt": [(r["response_time"] - r["ttft"]) / (r["token_size"] - 1) for r in decoded],
        "e2e": [row["response_time"] for row in rows],
    }
    return {
        f"{name}_p{percent}_s": float(np.percentile(values, percent))
        for name, values in columns.items()
        for percent in PERCENTS
    }


def _tokens_seen(report: Any) -> Figures:
    """The time between tokens up to the last one: the response's time has the stream's own end."""
    return {f"tbt_p{percent}_s": report["tbt_s"][f"p{percent}"] for percent in PERCENTS}


def compared(
    busy: float,
    load: Sequence[Arrival],
    report: Any,
    simulated: Figures,
    live: Figures,
    others: float,
) -> dict[str, Any]:
    """One load: what was foretold, what was, and the first over the second; `others` is the share
    of the machine that others took."""
    counts = report["requests"]
    return {
        "busy": busy,
        "requests": len(load),
        "failed": counts["sent"] - counts["ok"],
        "others": others,
        "foretold": simulated,
        "live": live,
        "ratio": {name: simulated[name] / live[name] for name in simulated},
    }


def show(found: dict[str, Any]) -> None:
    """The table of one load."""
    print(
        f"prompts {found['busy']:.0%} of the time, {found['requests']} requests, others took "
        f"{found['others']:.1%} of the machine:"
    )
    print(f"{'':8}{'foretold':>12}{'live':>12}{'ratio':>8}")
    for name, value in found["foretold"].items():
        both = (1000 * value, 1000 * found["live"][name])
        label = name.removesuffix("_s").replace("_", " ")
        print(f"{label:8}{both[0]:>9.1f} ms{both[1]:>9.1f} ms{found['ratio'][name]:>8.2f}")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.calibration", description=__doc__)
    add = parser.add_argument
    add("--busy", type=float, nargs="+", default=[0.3, 0.5, 0.7], help="loads, one after the other")
    add("--seconds", type=float, default=90.0, help="of each load")
    add("--length-scale", type=float, default=0.125, help="of its prompts and answers")
    add("--repeats", type=int, default=4, help="of each shape of the profile")
    add("--keep", type=Path, help="an empty directory for the times, and the last load's requests")
    add("--cache", type=Path, default=Path(".cache/models"))
    return parser


if __name__ == "__main__":
    main()
