"""What several rooms' tests share: the tiny model, trained once and cached beside the project."""

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
    # With all cores: the limit above is for processes that run side by side.
    subprocess.run([splitwise, "model", "tiny", str(directory)], check=True, env=_GIVEN)
    return directory
