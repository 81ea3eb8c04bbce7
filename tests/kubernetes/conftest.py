"""One API server, with our definitions, for all tests here."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.control_plane import ControlPlane, control_plane
from tests.support.kube_programs import NEEDS, programs

CRDS = Path(__file__).parents[2] / "crds"


@pytest.fixture(scope="session")
def kube(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The API server, once it serves SplitwiseClusters and SplitwisePools."""
    found = programs()
    if found is None:
        pytest.skip(NEEDS)
    with control_plane(found, tmp_path_factory.mktemp("control-plane")) as running:
        applied = running.kubectl("apply", "--server-side", "-f", str(CRDS))
        assert applied.returncode == 0, applied.stderr
        waited = running.kubectl(
            "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"
        )
        assert waited.returncode == 0, waited.stderr
        yield running
