"""What stands for a base image, and what uv is told not to install."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.images.containerfile import ROOT


def uv_program() -> str:
    """The project's uv, or the one on PATH."""
    own = ROOT / ".uv" / "bin" / "uv"
    found = str(own) if own.exists() else shutil.which("uv")
    if found is None:
        pytest.skip("there is no uv: `make setup` brings it")
    return found


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a Python with pip and nothing else: what the base image has."""
    if subprocess.run(["unshare", "--user", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine gives nobody a user namespace: no image's user can be played")
    directory = tmp_path_factory.mktemp("base") / "python"
    subprocess.run(
        [uv_program(), "venv", "--quiet", "--seed", "--python", sys.executable, str(directory)],
        check=True,
    )
    return directory / "bin"


@pytest.fixture(scope="session")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For uv: torch and triton, which are 5 GB, are not to be installed."""
    file = tmp_path_factory.mktemp("override") / "override.txt"
    file.write_text('torch; sys_platform == "never"\ntriton; sys_platform == "never"\n')
    return file
