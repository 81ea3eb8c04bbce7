"""The programs of a Kubernetes control plane: found, or built once from their Go modules.

`python -m tests.support.kube_programs` builds them; the tests take what is there.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

SOURCE: Final = Path(__file__).parents[1] / "kubernetes" / "controlplane"
VERSION: Final = "v1.34.2"
PROGRAMS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
)
BUILD_S: Final = 1200
NEEDS: Final = (
    "there is no Kubernetes control plane: `make kubernetes` builds one, once, with Go 1.24 "
    "or newer; or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver and kubectl"
)


def programs(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The directory that holds them, or None."""
    if assets := environment.get("KUBEBUILDER_ASSETS"):
        return Path(assets)
    built = _built(environment)
    return built if built.exists() else None


def build(environment: Mapping[str, str] = os.environ) -> Path | None:
    """As `programs`, built first where there is Go: some minutes, then kept in the user's cache."""
    if (found := programs(environment)) or not shutil.which("go", path=environment.get("PATH")):
        return found
    built = _built(environment)
    _build(built)
    return built


def _built(environment: Mapping[str, str]) -> Path:
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "splitwise" / f"control-plane-{VERSION}-{_digest()}"


def _digest() -> str:
    """Of all that is built."""
    files = (SOURCE / name for name in ("main.go", "go.mod", "go.sum"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _build(target: Path) -> None:
    """Builds in a directory beside `target`, which is there only when it is whole."""
    sys.stderr.write(f"building a Kubernetes {VERSION} control plane, once: about 5 minutes\n")
    work = target.with_name(f"{target.name}.{os.getpid()}")
    work.mkdir(parents=True)
    try:
        stamp = f"-s -w -X k8s.io/component-base/version.gitVersion={VERSION}"
        command = ["go", "build", "-trimpath", f"-ldflags={stamp}", "-o", str(work / "all"), "."]
        subprocess.run(command, cwd=SOURCE, check=True, timeout=BUILD_S)
        for program in PROGRAMS:
            (work / program).symlink_to("all")
        if not target.exists():
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.stderr.write(f"{build() or 'SKIPPED: ' + NEEDS}\n")
