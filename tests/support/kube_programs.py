"""A Kubernetes control plane, kubectl and helm: found, or built once from their Go modules.

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
HELM_VERSION: Final = "v3.19.0"
HELM_MODULE: Final = "helm.sh/helm/v3"
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
NEEDS_HELM: Final = (
    "there is no helm: `make kubernetes` builds one, once, with Go 1.24 or newer; or put helm "
    "3 on PATH, or set HELM to it"
)
BUILD_S: Final = 1800
"""What the build may take on a slow machine."""

_STAMPS: Final = {
    "k8s.io/component-base/version.gitVersion": VERSION,
    f"{HELM_MODULE}/internal/version.version": HELM_VERSION,
    # What `helm template` and `helm lint` take the cluster's version to be; without, it is 1.20.
    f"{HELM_MODULE}/pkg/chartutil.k8sVersionMajor": "1",
    f"{HELM_MODULE}/pkg/chartutil.k8sVersionMinor": "34",
    f"{HELM_MODULE}/pkg/lint/rules.k8sVersionMajor": "1",
    f"{HELM_MODULE}/pkg/lint/rules.k8sVersionMinor": "34",
}

Environment = Mapping[str, str]


def programs(environment: Environment = os.environ) -> Path | None:
    """The directory that holds PROGRAMS, or None."""
    assets = environment.get("KUBEBUILDER_ASSETS")
    return Path(assets) if assets else _built(environment)


def helm_program(environment: Environment = os.environ) -> Path | None:
    """The helm to run, or None."""
    given = environment.get("HELM") or shutil.which("helm", path=environment.get("PATH"))
    if given:
        return Path(given)
    built = _built(environment)
    return built / "helm" if built else None


def build(environment: Environment = os.environ) -> Path | None:
    """The directory of what is built, now or before; None without Go. Kept in the user's cache."""
    found = _built(environment)
    if found is None and shutil.which("go", path=environment.get("PATH")):
        found = _directory(environment)
        sys.stderr.write(f"building Kubernetes {VERSION} and helm, once: about 8 minutes\n")
        _build(found)
    return found


def _built(environment: Environment) -> Path | None:
    directory = _directory(environment)
    return directory if directory.exists() else None


def _directory(environment: Environment) -> Path:
    """Its name changes with all that is built."""
    files = (SOURCE / name for name in ("main.go", "go.mod", "go.sum"))
    digest = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    cache = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "splitwise" / f"kubernetes-{VERSION}-{digest}"


def _build(target: Path) -> None:
    """Builds in a directory beside `target`, which is there only when it is whole."""
    work = target.with_name(f"{target.name}.{os.getpid()}")
    work.mkdir(parents=True)
    stamps = " ".join(f"-X {name}={value}" for name, value in _STAMPS.items())
    # In one build, since they share most of their packages.
    command = ["go", "build", "-trimpath", f"-ldflags=-s -w {stamps}", "-o", f"{work}/"]
    command += [".", f"{HELM_MODULE}/cmd/helm"]
    try:
        subprocess.run(
            command, cwd=SOURCE, check=True, timeout=BUILD_S, env=os.environ | {"CGO_ENABLED": "0"}
        )
        for program in PROGRAMS:
            (work / program).symlink_to("controlplane")
        if not target.exists():
            work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    both_given = "KUBEBUILDER_ASSETS" in os.environ and helm_program() is not None
    sys.stderr.write(f"{programs() if both_given else build() or 'SKIPPED: ' + NEEDS}\n")
