"""`python -m bench.idle`: CPU time of a whole cluster that nobody asks anything.

Starts examples/quickstart.yaml (a router, three workers with their sidecars, and the process runner
that probes them), lets it settle, and counts the CPU seconds of every process of it for a while.
Prints a line a process; the last line is one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
SPLITWISE = str(Path(sys.executable).parent / "splitwise")
MODEL = ROOT / ".cache" / "models" / "tiny"
SETTLE_S = 5.0


def processes(status: Mapping[str, Any]) -> dict[str, psutil.Process]:
    """Every process of the cluster by its name; a container's children are counted with it."""
    found = {"runner": psutil.Process(status["runner"])}
    for pod in status["pods"]:
        for container in pod["containers"]:
            found[f"{pod['name']}/{container['name']}"] = psutil.Process(container["pid"])
    return found


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process since its start."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure(seconds: float) -> dict[str, float]:
    """The share of one core that each process used, in percent."""
    with tempfile.TemporaryDirectory() as state:
        options = ["--port", str(free_port()), "--state-dir", state]
        cluster = str(ROOT / "examples" / "quickstart.yaml")
        subprocess.run([SPLITWISE, "up", "-f", cluster, "--detach", *options], check=True)
        try:
            told = [SPLITWISE, "status", "-o", "json", "--state-dir", state]
            status = json.loads(subprocess.run(told, capture_output=True, check=True).stdout)
            watched = processes(status)
            time.sleep(SETTLE_S)
            before = {name: cpu_s(process) for name, process in watched.items()}
            began = time.monotonic()
            time.sleep(seconds)
            wall_s = time.monotonic() - began
            used = {name: cpu_s(process) - before[name] for name, process in watched.items()}
        finally:
            subprocess.run([SPLITWISE, "down", "--state-dir", state], check=True)
    return {name: 100 * used_s / wall_s for name, used_s in used.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    asked = parser.parse_args()
    subprocess.run([SPLITWISE, "model", "tiny", str(MODEL)], check=True)
    shares = measure(asked.seconds)
    for name, percent in shares.items():
        print(f"{name:32} {percent:6.2f} % of a core")
    total = sum(shares.values())
    print(f"{'all':32} {total:6.2f} % of a core")
    print(json.dumps({"bench": "idle", "seconds": asked.seconds, "percent_of_a_core": total}))


if __name__ == "__main__":
    main()
