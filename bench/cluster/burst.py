"""A burst of long prompts: fixed pools, and the same workers that lend each other.

The prompts of the burst come on top of a steady load of short ones, and are so many that they keep
one prompt worker busy for BURST_S. What a worker can do is measured first, so that it is the same
burst on each machine.
"""

import random
import re
import sys
import urllib.request
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.cluster.load import Report, bench
from bench.cluster.setups import Running, Setup, running
from bench.cluster.shares import shared
from splitwise_core.trace import Arrival, write_trace

WORKERS: Final = {"prompt": 1, "token": 3}
SETUPS: Final = {
    "fixed": Setup(WORKERS, {"borrowing": False}),
    "lending": Setup(WORKERS, {"borrowing": True}),
}
LONG, SHORT = 900, 100
"""Tokens of the burst's prompts, and of the others."""

OUTPUT: Final = 20
STEADY_SHARE: Final = 0.3
"""Of the prompt worker's time, what the steady load takes."""

BURST_S, BEGINS_S, SECONDS = 8.0, 10.0, 40.0
SPACING_S: Final = 0.05
ALONE: Final = (
    *("--arrivals", "constant", "--rate", "0.5", "--requests", "5", "--seed", "1"),
    *("--prompt-tokens", str(LONG), "--output-tokens", str(OUTPUT)),
)
"""Prompts of the burst, one by one: how long one takes, and what first requests pay for is paid."""

_LOANS: Final = re.compile(r"^splitwise_worker_loans_total\S* (\S+)$", re.MULTILINE)


def burst(model: Path, place: Path, cores: int, repeats: int) -> dict[str, Any]:
    """Times of both, medians over the turns, and how many times shorter the P99 of TTFT became."""
    reports: dict[str, list[Report]] = {name: [] for name in SETUPS}
    loans: dict[str, float] = dict.fromkeys(SETUPS, 0.0)
    file, prompt_s = place / "burst.csv", 0.0
    for turn in range(repeats):
        for name in list(SETUPS)[:: 1 if turn % 2 == 0 else -1]:
            with running(SETUPS[name], model, place, cores) as cluster, shared(cluster, cores):
                alone_s = bench(cluster.url, list(ALONE), place)["ttft_s"]["p50"]
                prompt_s = prompt_s or alone_s  # all turns have the same load
                file.write_text("".join(write_trace(arrivals(prompt_s))))
                reports[name].append(bench(cluster.url, ["--trace", str(file)], place))
                loans[name] += _loans(cluster)
            _tell(turn, name, reports[name][-1])
    fixed, lending = ([r["ttft_s"]["p99"] for r in turns] for turns in reports.values())
    ratios = [before / since for before, since in zip(fixed, lending)]
    found = {name: _figures(turns) | {"loans": loans[name]} for name, turns in reports.items()}
    return {"prompt_s": prompt_s, **found, "ttft_p99_ratio": median(ratios), "ratios": ratios}


def arrivals(prompt_s: float) -> list[Arrival]:
    """The load, where a prompt of the burst takes `prompt_s`."""
    draw, at_s = random.Random(3), 0.0
    rate = STEADY_SHARE / (prompt_s * SHORT / LONG)
    made = [
        Arrival(BEGINS_S + SPACING_S * number, LONG, OUTPUT)
        for number in range(round(BURST_S / prompt_s))
    ]
    while (at_s := at_s + draw.expovariate(rate)) < SECONDS:
        made.append(Arrival(at_s, SHORT, OUTPUT))
    return sorted(made, key=lambda arrival: arrival.at_s)


def _loans(cluster: Running) -> float:
    """How often workers were borrowed."""
    texts = [urllib.request.urlopen(url).read().decode() for url in cluster.worker_metrics()]
    return sum(float(number) for text in texts for number in _LOANS.findall(text))


def _figures(turns: list[Report]) -> dict[str, Any]:
    """Medians over the turns; requests are summed."""
    counts = [turn["requests"] for turn in turns]
    found: dict[str, Any] = {
        time: {p: median(turn[time][p] for turn in turns) for p in ("p50", "p99")}
        for time in ("ttft_s", "tbt_s", "e2e_s")
    }
    return found | {name: sum(c[name] for c in counts) for name in ("sent", "ok")}


def _tell(turn: int, name: str, report: Report) -> None:
    counts = {kind: count for kind, count in report["requests"].items() if count}
    sys.stderr.write(
        f"turn {turn + 1} {name}: {counts}, TTFT P50 {report['ttft_s']['p50']:.3f} s, "
        f"P99 {report['ttft_s']['p99']:.3f} s, TBT P99 {report['tbt_s']['p99']:.3f} s\n"
    )
