"""What several rooms' tests share: the tiny model, trained once and cached beside the project."""

import os
from pathlib import Path

import pytest

# One thread and no spinning: tests run many processes on few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def tiny_model() -> Path:
    """The directory of the tiny checkable model."""
    from splitwise_worker.tiny import cached_tiny_model

    return cached_tiny_model(ROOT / ".cache")
