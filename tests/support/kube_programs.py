"""The programs of a Kubernetes control plane: found, or built once from their Go modules.

`python -m tests.support.kube_programs` builds them; the tests take what is there.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from tests.support.go_programs import BUILD_S, GoPrograms

SOURCE: Final = Path(__file__).parents[1] / "kubernetes" / "controlplane"
VERSION: Final = "v1.34.2"
PROGRAMS: Final = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
)
NEEDS: Final = (
    "there is no Kubernetes control plane: `make kubernetes` builds one, once, with Go 1.24 "
    "or newer; or set KUBEBUILDER_ASSETS to a directory with etcd, kube-apiserver and kubectl"
)


def programs(environment: Mapping[str, str] = os.environ) -> Path | None:
    """The directory that holds them, or None."""
    assets = environment.get("KUBEBUILDER_ASSETS")
    return Path(assets) if assets else _GO.found(environment)


def build(environment: Mapping[str, str] = os.environ) -> Path | None:
    """As `programs`, built first where there is Go: some minutes, then kept in the user's cache."""
    return programs(environment) or _GO.built(environment)


def _digest() -> str:
    """Of all that is built."""
    files = (SOURCE / name for name in ("main.go", "go.mod", "go.sum"))
    return sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def _make(directory: Path) -> None:
    stamp = f"-s -w -X k8s.io/component-base/version.gitVersion={VERSION}"
    command = ["go", "build", "-trimpath", f"-ldflags={stamp}", "-o", str(directory / "all"), "."]
    subprocess.run(command, cwd=SOURCE, check=True, timeout=BUILD_S)
    for program in PROGRAMS:
        (directory / program).symlink_to("all")


_GO: Final = GoPrograms(
    name=f"control-plane-{VERSION}-{_digest()}",
    told=f"a Kubernetes {VERSION} control plane, once: about 5 minutes",
    make=_make,
)


if __name__ == "__main__":
    sys.stderr.write(f"{build() or 'SKIPPED: ' + NEEDS}\n")
