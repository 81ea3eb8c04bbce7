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

VERSION: Final = "v3.19.0"
MODULE: Final = "helm.sh/helm/v3"
BUILD_S: Final = 1200
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
    if given := environment.get("HELM"):
        return Path(given)
    if found := shutil.which("helm", path=environment.get("PATH")):
        return Path(found)
    built = _built(environment)
    return built if built.exists() else None


def build(environment: Mapping[str, str] = os.environ) -> Path | None:
    """As `program`, built first where there is Go: some minutes, then kept in the user's cache."""
    if (found := program(environment)) or not shutil.which("go", path=environment.get("PATH")):
        return found
    built = _built(environment)
    _build(built)
    return built


def _built(environment: Mapping[str, str]) -> Path:
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "splitwise" / f"helm-{VERSION}" / "helm"


def _build(target: Path) -> None:
    """Builds in a directory beside `target`, which is there only when it is whole."""
    sys.stderr.write(f"building helm {VERSION}, once: about 3 minutes\n")
    work = target.parent.with_name(f"{target.parent.name}.{os.getpid()}")
    work.mkdir(parents=True)
    try:
        stamps = " ".join(f"-X {MODULE}/{name}={value}" for name, value in _STAMPS.items())
        command = ["go", "install", "-trimpath", f"-ldflags=-s -w {stamps}"]
        command.append(f"{MODULE}/cmd/helm@{VERSION}")
        environment = os.environ | {"GOBIN": str(work)}
        subprocess.run(command, check=True, timeout=BUILD_S, env=environment)
        target.parent.mkdir(parents=True, exist_ok=True)
        (work / "helm").rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.stderr.write(f"{build() or 'SKIPPED: ' + NEEDS}\n")
