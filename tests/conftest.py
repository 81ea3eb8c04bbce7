"""What several rooms' tests share: the tiny model, trained once and cached beside the project."""

import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support import packages

_GIVEN = dict(os.environ)
# One thread and no spinning: tests run many processes on few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# How long an example takes says something of the machine: no deadline.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=2000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))

ROOT = Path(__file__).parents[1]
# Tests fork only to start a program, which gRPC's threads, begun anew before it is, would end.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
packages.put_on_path()


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


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Programs that a test runs in this process set up logging for all of it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest goes first: whole Kubernetes clusters.

    What starts whole clusters or an API server is tried once more when it fails: half an hour of
    dozens of processes on a shared machine meets every pause that it has. The summary says RERUN;
    it is to be looked into as a failure is.
    """
    items.sort(key=lambda item: item.path.parent != ROOT / "tests" / "kubernetes" / "e2e")
    for item in items:
        if item.get_closest_marker("e2e") or item.get_closest_marker("kubernetes"):
            item.add_marker(pytest.mark.flaky(reruns=1))


class _FilesTogether(LoadScopeScheduling):
    """Side by side (`-n 2`) go files, whose tests share what they start.

    All files on Kubernetes share a cluster, or an API server, and go together; and all of the
    planner, whose kernels are compiled once.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        together = file.startswith(("tests/kubernetes/", "tests/planner/"))
        return file.rpartition("/")[0] if together else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _FilesTogether:
    """How xdist shares tests out."""
    return _FilesTogether(config, log)
