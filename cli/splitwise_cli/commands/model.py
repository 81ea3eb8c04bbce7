"""`splitwise model`: checkpoints to try things with, made by the worker's own code."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from splitwise_core.errors import UserError


def tiny(directory: Path) -> None:
    """Trains the tiny model into `directory`, showing progress; nothing when it is there."""
    _run("splitwise_worker.tiny", str(directory))


def random(directory: Path, preset: str, seed: int) -> None:
    """Writes random weights in the shape of `preset`."""
    _run("splitwise_worker.random_model", str(directory), "--preset", preset, "--seed", str(seed))


def _run(module: str, *arguments: str) -> None:
    """In a process of its own: torch stays out of this one."""
    if find_spec("torch") is None:
        raise UserError(
            "environment",
            where="splitwise model",
            wrong="torch is not installed",
            fix="pip install 'splitwise[worker]'",
        )
    # Threads that spin while they wait take the cores from whatever else runs here.
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=False, env=env)
    if done.returncode:
        raise SystemExit(done.returncode)
