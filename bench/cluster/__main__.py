"""`python -m bench.cluster`: one load on four clusters of equal cores, and what their clients saw.

Two pools, mixed workers alone, two pools with a mixed one that takes what overflows, and two pools
that keep a request on one worker where measured times say so: real processes, started by
`splitwise up`, and loaded by `splitwise bench` with a trace whose rate is a part of what mixed
workers can do here at most. They take turns, each anew, in another order each time; figures are
medians over the turns. Prints tables; the last line is one JSON object.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

from bench.cluster.burst import burst
from bench.cluster.load import Report, Trace, bench, solo_slo
from bench.cluster.model import written
from bench.cluster.overload import overload, told
from bench.cluster.picture import draw
from bench.cluster.setups import AGGREGATED, Running, running, setups
from bench.cluster.synthetic import OUTPUT, PROMPT, trace
from splitwise_core.trace import write_trace

CALIBRATION = 64  # requests: so many that the last ones, which run alone, count little
WAIT_SHARE = 0.5
"""Of the limit for the first token, what an overloaded cluster lets requests wait."""

SLO = ("--slo-ttft", "--slo-tbt")
FIGURES = ("ttft_s", "tbt_s", "e2e_s")
PERCENTILES = ("p50", "p90", "p99")

REQUESTS = 50_000
"""Of the synthetic trace, which a load goes through once: ten minutes of 40 a second are 24,000."""


def main() -> None:
    asked = _parser().parse_args()
    model = written(asked.cache / "bench-6m")
    clusters = setups(asked.cores)
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        place = Path(name)
        if asked.burst:
            print(json.dumps(burst(model, place, asked.cores, asked.repeats)))
            return
        load = _trace(asked, place)
        first = asked.setup if asked.overload else AGGREGATED
        with running(clusters[first], model, place, asked.cores) as cluster:
            capacity, slo = calibrated(cluster, load, place)
        print(f"{first}: {capacity:.2f} requests/s at most; {' '.join(slo)}", flush=True)
        if asked.overload:
            ttft_s, tbt_s = (float(slo[slo.index(name) + 1]) for name in SLO)
            wait_s = max(0.1, WAIT_SHARE * ttft_s)
            with running(clusters[first], model, place, asked.cores, wait_s, tbt_s) as cluster:
                warm_up(cluster, place)
                found = overload(cluster, load, capacity, slo, asked.overload, place)
            print("\n".join([*told(found), json.dumps(found)]))
            return
        options = [*load.options(asked.load * capacity, asked.seconds), *slo]
        reports: dict[str, list[Report]] = {name: [] for name in clusters}
        for turn in range(asked.repeats):
            names = list(clusters)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                with running(clusters[name], model, place, asked.cores) as cluster:
                    warm_up(cluster, place)
                    reports[name].append(bench(cluster.url, options, place))
                _tell(turn, name, reports[name][-1])
    result = {name: medians(turns) for name, turns in reports.items()}
    show(result)
    draw(result, asked.picture)
    print(f"the same as a picture: {asked.picture}")
    print(json.dumps({name: _last_line(found) for name, found in result.items()}))


def calibrated(cluster: Running, load: Trace, place: Path) -> tuple[float, list[str]]:
    """Requests a second at most, and the limits of a good answer."""
    warm_up(cluster, place)
    sizes = (round(PROMPT[0] * load.length_scale), round(OUTPUT[0] * load.length_scale))
    slo = solo_slo(cluster.url, *sizes, place)
    return float(bench(cluster.url, load.burst(CALIBRATION), place)["requests_per_s"]), slo


def warm_up(cluster: Running, place: Path) -> None:
    """The first requests pay for what later ones find ready."""
    sizes = ["--prompt-tokens", "64", "--output-tokens", "4"]
    bench(cluster.url, ["--rate", "8", "--requests", "8", *sizes], place)


def medians(turns: list[Report]) -> dict[str, float]:
    """Medians of all figures; what failed is the sum."""
    found = {
        f"{figure.removesuffix('_s')}_{percentile}_s": median(
            turn[figure][percentile] or float("nan") for turn in turns
        )
        for figure in FIGURES
        for percentile in PERCENTILES
    }
    found["goodput_rps"] = median(turn["goodput_rps"] for turn in turns)
    found["goodput_ratio"] = median(turn["goodput_ratio"] for turn in turns)
    counts = [turn["requests"] for turn in turns]
    found["requests"] = sum(count["sent"] for count in counts)
    found["failed"] = sum(count["sent"] - count["ok"] for count in counts)
    return found


def show(result: dict[str, dict[str, float]]) -> None:
    """The table."""
    print(f"{'':16}" + "".join(f"{name:>16}" for name in result))
    for row in next(iter(result.values())):
        values = "".join(f"{found[row]:16.4g}" for found in result.values())
        print(f"{row:16}{values}")


def _last_line(found: dict[str, float]) -> dict[str, float]:
    names = ("ttft_p99_s", "tbt_p99_s", "e2e_p99_s", "goodput_rps", "failed")
    return {name: round(found[name], 4) for name in names}


def _tell(turn: int, name: str, report: Report) -> None:
    counts = {kind: count for kind, count in report["requests"].items() if count}
    sys.stderr.write(
        f"turn {turn + 1} {name}: {counts}, TTFT P99 {report['ttft_s']['p99']} s, "
        f"TBT P99 {report['tbt_s']['p99']} s, goodput {report['goodput_rps']:.2f}/s, "
        f"client late by {report['client_late_s']['p99']} s in 1 %\n"
    )


def _trace(asked: argparse.Namespace, place: Path) -> Trace:
    """The trace asked for, or the synthetic one."""
    if asked.trace is not None:
        return Trace(asked.trace, asked.length_scale)
    file = place / "trace.csv"
    file.write_text("".join(write_trace(trace(REQUESTS, seed=1))))
    return Trace(file, asked.length_scale)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.cluster", description=__doc__)
    add = parser.add_argument
    cores = len(os.sched_getaffinity(0))
    add("--trace", type=Path, help="CSV as for `splitwise bench`; default: a synthetic one")
    add("--length-scale", type=float, default=0.125, help="of its prompts and answers")
    add("--load", type=float, default=0.6, help="part of what mixed workers can do at most")
    add("--seconds", type=float, default=40.0, help="of each turn's load")
    add("--repeats", type=int, default=3, help="turns of each set-up")
    add("--cores", type=int, default=cores, help="that workers compute on, one each")
    add("--overload", type=float, metavar="SECONDS", help="instead: twice the capacity, so long")
    add("--burst", action="store_true", help="instead: long prompts at once, workers lent or not")
    add("--setup", choices=list(setups(2)), default="disaggregated", help="that is overloaded")
    add("--picture", type=Path, default=Path("docs/figures/cluster.svg"))
    add("--cache", type=Path, default=Path(".cache/models"))
    return parser


if __name__ == "__main__":
    main()
