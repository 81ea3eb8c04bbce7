"""What several rooms' tests share: the tiny model, trained once and cached beside the project."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

_GIVEN = dict(os.environ)
# One thread and no spinning: tests run many processes on few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The directory of the tiny checkable model, as `make demo` has it too."""
    directory = ROOT / ".cache" / "models" / "tiny"
    splitwise = Path(sys.executable).parent / "splitwise"
    directory.parent.mkdir(parents=True, exist_ok=True)
    with (directory.parent / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests that run side by side train it once
        # With all cores: the limit above is for processes that run side by side.
        subprocess.run([splitwise, "model", "tiny", str(directory)], check=True, env=_GIVEN)
    return directory


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Side by side (`-n 2`) go files, whose tests share what they start; longest first.

    The whole Kubernetes cluster is one for all its files, and so is the API server of the others.
    """
    for item in items:
        place = item.path.relative_to(ROOT / "tests")
        shared = place.parent if place.parts[0] == "kubernetes" else place
        item.add_marker(pytest.mark.xdist_group(str(shared)))
    items.sort(key=lambda item: item.path.parent != ROOT / "tests" / "kubernetes" / "e2e")
