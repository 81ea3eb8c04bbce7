"""A short run of the fuzzing, always the same seed; `make fuzz` sends a million messages."""

import json
import subprocess
import sys
from pathlib import Path

from tests.fuzz.run import PART

ROOT = Path(__file__).parents[2]
SECONDS = 240


def test_no_message_at_any_door_crashes_hangs_or_leaks() -> None:
    """INV-3, INV-4. A process of its own: pytest keeps what is logged, and all that hangs on it."""
    command = [sys.executable, "-m", "tests.fuzz", "--messages=20000", "--seed=20", "--jobs=1"]
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=False
    )
    *_, run, total = done.stdout.splitlines()
    assert (json.loads(total)["violations"], done.returncode) == ([], 0)
    report = json.loads(run.partition(": ")[2])
    assert set(report["doors"]) == set(PART), "every door was knocked at"
    assert report["leases"]["digest_mismatch"] > 0
    assert report["lines_reached"] > 500
