"""The real helm: found, or built once from its Go module.

`python -m tests.support.helm_program` builds it; the tests take what is there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.support.go_programs import BUILD_S, GoPrograms

VERSION: Final = "v3.19.0"
MODULE: Final = "helm.sh/helm/v3"
_STAMPS: Final = {
    "internal/version.version": VERSION,
    # What `helm template` and `helm lint` take the cluster's version to be; without, it is 1.20.
    "pkg/chartutil.k8sVersionMajor": "1",
    "pkg/chartutil.k8sVersionMinor": "34",
    "pkg/lint/rules.k8sVersionMajor": "1",
    "pkg/lint/rules.k8sVersionMinor": "34",
}
NEEDS: Final = (
    "there is no helm: `make kubernetes` builds one, once, with Go 1.24 or newer; or put helm "
    "3 on PATH, or set HELM to it"
)


def program(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The helm to run, or None."""
    return _given(environment) or _in(_GO.found(environment))


def build(environment: Mapping[str, str] = os.environ) -> Path | None:
    """As `program`, built first where there is Go: some minutes, then kept in the user's cache."""
    return _given(environment) or _in(_GO.built(environment))


def _given(environment: Mapping[str, str]) -> Path | None:
    given = environment.get("HELM") or shutil.which("helm", path=environment.get("PATH"))
    return Path(given) if given else None


def _in(directory: Path | None) -> Path | None:
    return directory / "helm" if directory else None


def _make(directory: Path) -> None:
    stamps = " ".join(f"-X {MODULE}/{name}={value}" for name, value in _STAMPS.items())
    command = ["go", "install", "-trimpath", f"-ldflags=-s -w {stamps}"]
    command.append(f"{MODULE}/cmd/helm@{VERSION}")
    environment = os.environ | {"GOBIN": str(directory)}
    subprocess.run(command, check=True, timeout=BUILD_S, env=environment)


_GO: Final = GoPrograms(
    name=f"helm-{VERSION}", told=f"helm {VERSION}, once: about 3 minutes", make=_make
)


if __name__ == "__main__":
    sys.stderr.write(f"{build() or 'SKIPPED: ' + NEEDS}\n")
