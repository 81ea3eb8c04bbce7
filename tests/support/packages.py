"""`python -m tests.support.packages`: Debian's packages that tests use, where they can be had.

Tests take what is there; without it they are skipped and say so.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

UNPACKED: Final = Path(__file__).parents[2] / ".cache/debian"
PROGRAMS: Final = UNPACKED / "usr/bin"
"""To be searched after PATH."""

WITHIN_S: Final = 900
_WAITING: Final = ("-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0")


def put_on_path() -> None:
    """From now on this process, and what it starts, finds what is only unpacked."""
    os.environ["PATH"] += f"{os.pathsep}{PROGRAMS}"


def missing() -> list[str]:
    """Packages, by the names of their programs, that are not here."""
    path = f"{os.environ['PATH']}{os.pathsep}{PROGRAMS}"
    return [name for name in ("chromium", "prometheus") if shutil.which(name, path=path) is None]


def get(packages: Sequence[str]) -> None:
    """Installs the browser, where this is root; Prometheus is only unpacked.

    Installed, it would run as a service from then on.
    """
    if not packages or not shutil.which("apt-get"):
        return
    sys.stderr.write(f"getting Debian's {' and '.join(packages)}, once: about a minute\n")
    if os.geteuid() == 0:
        _run("apt-get", "update")
        if "chromium" in packages:
            _run("apt-get", "install", "--yes", "--no-install-recommends", *_WAITING, "chromium")
    if "prometheus" in packages:
        with tempfile.TemporaryDirectory() as place:
            os.chmod(place, 0o755)  # apt reads as a user of its own
            _run("apt-get", "download", "prometheus", place=place)
            for package in Path(place).glob("prometheus_*.deb"):
                UNPACKED.mkdir(parents=True, exist_ok=True)
                _run("dpkg-deb", "--extract", str(package), str(UNPACKED))


def _run(*command: str, place: str | None = None) -> None:
    """What fails is told of by the program, and then missing."""
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    quiet = subprocess.DEVNULL
    subprocess.run(command, check=False, stdout=quiet, timeout=WITHIN_S, env=environment, cwd=place)


if __name__ == "__main__":
    get(missing())
    for lacking in missing():
        sys.stderr.write(f"SKIPPED: tests that need {lacking}; it cannot be had here\n")
