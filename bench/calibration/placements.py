"""`python -m bench.calibration.placements`: a recorded live run, placed anew by the simulator.

Two prompt and two token workers, each with an equal part of the cores, serve a trace. What their
router has logged of it, arrivals and sizes, is then simulated on a profile measured before: not the
policy alone with what the router saw, but all queues, steps and transfers in virtual time. Prints
which share of the requests went to the same workers in both, and of the others how many were placed
where queues were equally long, so that the least thing decides; the last line is one JSON object.
"""

import argparse
import csv
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, Final

from bench.calibration.__main__ import CORES, drawn
from bench.calibration.foretold import LARGER, catalogue, foretold, link_bytes_per_s, profiled
from bench.calibration.others import since_now
from bench.cluster.__main__ import warm_up
from bench.cluster.load import bench
from bench.cluster.model import written
from bench.cluster.setups import Setup, running
from bench.cluster.shares import shared
from splitwise_core.request_log import PLACED, REQUEST
from splitwise_core.trace import write_trace

POOL: Final = 2
"""Workers of each."""

SETUP: Final = Setup({"prompt": POOL, "token": POOL}, {"borrowing": False}, is_logged=True)
DESIGN: Final = f"CC-{POOL}P-{POOL}T"
POOLS: Final = {
    role: [f"bench-{role}-{number}" for number in range(POOL)] for role in SETUP.workers
}
QUEUES: Final = {"prompt": "pending_prompt_tokens", "token": "pending_tokens"}

GRID: Final = ("--repeats", "2", "--under-way", "4,8", "--token-workers", str(POOL))
SETTLES_S: Final = 1.0
"""Between what was asked before and the recorded run."""


def main() -> None:
    """Measures, records, simulates what was recorded, compares."""
    asked = _parser().parse_args()
    model = written(asked.cache / "bench-23m", LARGER)
    with TemporaryDirectory() as directory:
        place = Path(directory)
        with running(SETUP, model, place, CORES) as cluster, shared(cluster, CORES):
            warm_up(cluster, place)
            times, overheads = profiled(cluster.url, place, list(GRID))
            catalog = catalogue(place, overheads, link_bytes_per_s(cluster.url))
            trace = place / "trace.csv"
            trace.write_text("".join(write_trace(drawn(times, POOL * asked.busy, asked, seed=0))))
            time.sleep(SETTLES_S)
            began_s, others = time.time(), since_now(cluster.processes)
            bench(cluster.url, ["--trace", str(trace)], place)
            taken = others()
        log = place / "state" / "logs" / "bench-router-0.router.log"
        recorded, simulated = place / "recorded.jsonl", place / "simulated.csv"
        lines = list(requests_since(log, began_s))
        recorded.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        foretold(times, catalog, recorded, simulated, DESIGN)
        found = compared(lines, placed(log), simulated)
    print(f"others took {taken:.1%} of the machine")
    print(json.dumps({"busy": asked.busy, "others": taken, **found}))


def requests_since(log: Path, began_s: float) -> Iterator[Mapping[str, Any]]:
    """The log's lines of requests that arrived from then on, by arrival."""
    found = [row for row in _rows(log, REQUEST) if row["arrived_unix_s"] >= began_s]
    return iter(sorted(found, key=lambda row: row["arrived_unix_s"]))


def placed(log: Path) -> dict[str, Mapping[str, Any]]:
    """The last placement of each request, by its id."""
    return {row["request_id"]: row for row in _rows(log, PLACED)}


def _rows(log: Path, message: str) -> Iterator[Mapping[str, Any]]:
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("message") == message:
            yield row


def compared(
    lines: list[Mapping[str, Any]], placements: Mapping[str, Mapping[str, Any]], simulated: Path
) -> dict[str, float]:
    """Shares of the requests that went to the same workers in both, and of those that did not
    though the live queues were equally long. Those of a single token are left out."""
    with simulated.open(encoding="utf-8", newline="") as file:
        rows = {int(row["request_id"]): row for row in csv.DictReader(file)}
    both = [(line, rows[number]) for number, line in enumerate(lines)]
    moved = [(line, row) for line, row in both if line["token_worker"] in POOLS["token"]]
    found: dict[str, float] = {"requests": len(moved)}
    same = {}
    for phase, names in POOLS.items():
        live = [names.index(line[f"{phase}_worker"]) for line, _ in moved]
        there = [int(row[f"{phase}_worker"]) for _, row in moved]
        same[phase] = _same(live, there)
        seen = [_queues(placements[line["request_id"]], phase) for line, _ in moved]
        tied = [len(set(queues)) == 1 for queues in seen]
        found[f"{phase}_same"] = fmean(same[phase])
        found[f"{phase}_other_of_equal_queues"] = fmean(
            tie and not one for tie, one in zip(tied, same[phase], strict=True)
        )
    found["both_same"] = fmean(map(all, zip(*same.values(), strict=True)))
    return found


def _same(live: Sequence[int], simulated: Sequence[int]) -> list[bool]:
    """Of each request, whether both name the same worker, where those of the simulator are named
    such that most do: the workers of a pool are alike, and which is the first is an accident."""
    first = POOL * (min(simulated) // POOL)  # the simulator counts on from pool to pool
    namings = (
        [name == naming[there - first] for name, there in zip(live, simulated, strict=True)]
        for naming in permutations(range(POOL))
    )
    return max(namings, key=sum)


def _queues(placed: Mapping[str, Any], phase: str) -> list[int]:
    """What waited at each worker of a pool as the router saw it, in tokens."""
    column = placed["placement"]["fleet"][QUEUES[phase]]
    return [column[placed["workers"].index(name)] for name in POOLS[phase]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.calibration.placements", description=__doc__
    )
    add = parser.add_argument
    add("--busy", type=float, default=0.5, help="part of the time for which prompts are computed")
    add("--seconds", type=float, default=60.0, help="of the recorded run")
    add("--length-scale", type=float, default=0.125, help="of its prompts and answers")
    add("--cache", type=Path, default=Path(".cache/models"))
    return parser


if __name__ == "__main__":
    main()
