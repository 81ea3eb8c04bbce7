"""`python -m tests.fuzz --messages 1000000 --seed 1`: two processes share the messages out.

The last line is JSON; exit code 1 when something broke.
"""

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.fuzz.run import fuzz


def main() -> int:
    """0 when nothing broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="stop then, in any case")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processes; each its own seed")
    given = parser.parse_args()
    seeds = range(given.seed, given.seed + given.jobs)
    share = -(-given.messages // given.jobs)
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        runs = [pool.submit(fuzz, seed, share, given.minutes * 60) for seed in seeds]
        reports = [run.result() for run in runs]
    for seed, report in zip(seeds, reports):
        print(f"seed {seed}: {json.dumps(report)}")
    total = sum(report["messages"] for report in reports)
    violations = [violation for report in reports for violation in report["violations"]]
    print(json.dumps({"messages": total, "violations": violations}))
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
