"""helm itself, and an API server that nothing is installed on."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helm.release import Helm
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.kube_programs import NEEDS, NEEDS_HELM, helm_program, programs


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Without a cluster: it renders and checks."""
    found = helm_program()
    if found is None:
        pytest.skip(NEEDS_HELM)
    return Helm(found, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def kube_programs() -> Path:
    """The directory with kubectl and the control plane."""
    found = programs()
    if found is None:
        pytest.skip(NEEDS)
    return found


@pytest.fixture(scope="module")
def cluster(
    kube_programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """Each module's own: the CRDs must come from what the module installs."""
    with control_plane(kube_programs, tmp_path_factory.mktemp("control-plane")) as running:
        yield running


@pytest.fixture(scope="module")
def installer(helm: Helm, cluster: ControlPlane) -> Helm:
    """helm, as the administrator of that API server."""
    return Helm(helm.program, helm.home, cluster.kubeconfig)
