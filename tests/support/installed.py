"""The operator as its chart installs it, on a whole cluster of the tests' own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.helm.release import CHART, NAMESPACE, Helm
from tests.support import kube_programs
from tests.support.machine import PROGRAMS, Machine
from tests.support.netns import why_not

RELEASE: Final = (
    *("splitwise", str(CHART), "--namespace", NAMESPACE, "--create-namespace"),
    *("--take-ownership", "--wait", "--timeout=120s"),
)
"""What `helm install` is told; the cluster may have the CRDs before, of a release that went."""
_COMPONENTS: Final = ("operator", "worker", "sidecar", "router")


def why_no_machine() -> str | None:
    """What keeps this machine from having a whole cluster; None when nothing does."""
    found = kube_programs.programs()
    if found is None:
        return kube_programs.NEEDS
    if missing := [name for name in PROGRAMS if not (found / name).exists()]:
        return f"a whole cluster: {found} lacks {', '.join(missing)}"
    reason = why_not()
    return None if reason is None else f"a whole cluster on this machine: {reason}"


def helm_for(machine: Machine, program: Path, home: Path) -> Helm:
    """helm, as the administrator of the cluster, whose nodes have the chart's images then."""
    made = Helm(program, home, machine.kubeconfig)
    version = made.chart_version()
    chart_images = {f"splitwise-{component}:{version}" for component in _COMPONENTS}
    machine.images.write(machine.images.read() | chart_images)
    return made


@contextmanager
def installed(machine: Machine, helm: Helm) -> Iterator[None]:
    """The chart, until this ends. Entered and left from outside the cluster's network."""
    with machine.network.entered():
        helm.do("install", *RELEASE)
    try:
        yield
    finally:
        with machine.network.entered():
            helm.do("uninstall", "splitwise", "--namespace", NAMESPACE, "--wait")
