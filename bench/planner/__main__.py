"""`python -m bench.planner TRACE [--mode measured]`: how fast the planner simulates, in how much
memory.

Draws loads with the sizes of TRACE, such as one of the Azure LLM inference traces,
and simulates each five times; CPU seconds, since other processes share the machine. Compiles first.
Prints a line a load; the last line is one JSON object.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from statistics import median
from typing import Any, get_args

from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.modes import Mode, simulation_of
from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.trace import load_trace
from splitwise_planner.workload import Workload

MODEL = "bloom-176b"

LOADS = (
    ("HH-25P-15T", 70.0, 120.0),
    ("HH-25P-15T", 100.0, 600.0),  # 60,000 requests on 40 machines
    ("HH-500P-300T", 2000.0, 60.0),  # 120,000 on 800
)
"""Design, requests a second, seconds."""

RUNS = 5


def measure(workload: Workload, mode: Mode, name: str, rate: float) -> dict[str, Any]:
    """CPU seconds of simulating a load: the median and the least of RUNS."""
    catalog = load_catalog()
    design = parse_design(name, catalog)
    simulate = simulation_of(mode, load_phase_times(), MODEL, catalog.model(MODEL), design)
    trace = workload.at(rate, 0)
    times = []
    for _ in range(RUNS):
        began = time.process_time()
        outcome, _ = simulate(trace)
        times.append(time.process_time() - began)
        assert outcome.unfinished == 0, f"{name} is too small for {rate:g} requests/s"
    return {
        "mode": mode,
        "design": name,
        "requests": len(trace),
        "cpu_s": median(times),
        "least_cpu_s": min(times),
        "us_per_request": 1e6 * median(times) / len(trace),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    """Measures each load."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m bench.planner")
    parser.add_argument("trace", type=Path)
    parser.add_argument("--mode", choices=get_args(Mode), default="compat")
    arguments = parser.parse_args()
    sizes = load_trace(arguments.trace)
    measure(Workload(sizes, 1.0), arguments.mode, "HH-1P-1T", 1.0)  # compiles
    found = []
    for name, rate, duration_s in LOADS:
        one = measure(Workload(sizes, duration_s), arguments.mode, name, rate)
        found.append(one)
        print(
            f"{one['requests']:>7} requests on {name}: {one['cpu_s']:.3f} s, "
            f"{one['us_per_request']:.1f} us each, {one['peak_rss_mb']:.0f} MB"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
