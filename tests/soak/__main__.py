"""`python -m tests.soak --minutes 10`: the last line is JSON; exit code 1 when a promise broke."""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.soak.run import Soak


def main() -> int:
    """0 when everything held."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as place:
        report = asyncio.run(Soak(Path(place), given.seed).run(given.minutes * 60))
    print(json.dumps(report))
    return 1 if report["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
