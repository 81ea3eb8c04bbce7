"""One whole cluster for all tests here; each test is inside its network while it runs."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from tests.helm.release import Helm
from tests.support import kube_programs
from tests.support.cluster import eventually
from tests.support.installed import helm_for, installed, why_no_machine
from tests.support.machine import Machine, machine
from tests.support.operated import Operated

_numbers = count(1)


@pytest.fixture(scope="session")
def running_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The cluster, from outside: see `cluster_machine`."""
    found, reason = kube_programs.programs(), why_no_machine()
    if found is None or reason is not None:
        pytest.skip(reason or kube_programs.NEEDS)
    with machine(found, tmp_path_factory.mktemp("m")) as made:
        yield made


@pytest.fixture
def cluster_machine(running_machine: Machine) -> Iterator[Machine]:
    """A cluster with nodes cpu-1, gpu-a100-1 and gpu-h100-1; this test is inside its network."""
    with running_machine.network.entered():
        yield running_machine


@pytest.fixture
def namespace(cluster_machine: Machine) -> Iterator[str]:
    """A namespace of the test's own; what is in it is deleted afterwards."""
    name = f"test-{next(_numbers)}"
    made = cluster_machine.kubectl("create", "namespace", name)
    assert made.returncode == 0, made.stderr
    account = ("get", "serviceaccount/default", f"--namespace={name}")
    # Kubernetes' controllers may wait half a minute after an API server was away.
    eventually(lambda: cluster_machine.kubectl(*account).returncode == 0, 60, lambda: name)
    yield name
    cluster_machine.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def helm(running_machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """helm, as the administrator of the cluster, whose nodes have the chart's images."""
    found = kube_programs.helm_program()
    if found is None:
        pytest.skip(kube_programs.NEEDS_HELM)
    return helm_for(running_machine, found, tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def operator(helm: Helm, running_machine: Machine) -> Iterator[Helm]:
    """The chart, installed once for all tests of it; those of other operators come before."""
    with installed(running_machine, helm):
        yield helm


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the installed operator comes last: until then there is none."""
    here = Path(__file__).parent
    own = [item for item in items if item.path.parent == here]
    own.sort(key=lambda item: "operator" in getattr(item, "fixturenames", ()))
    for index, item in zip([i for i, item in enumerate(items) if item.path.parent == here], own):
        items[index] = item


@pytest.fixture
def operated(operator: Helm, cluster_machine: Machine, namespace: str) -> Iterator[Operated]:
    """A name for a cluster in a namespace of the test's own, looked after by the operator."""
    made = Operated(cluster_machine, namespace)
    yield made
    cluster_machine.kubectl("delete", "swc", "--all", f"--namespace={namespace}")
    eventually(lambda: not made.pods(), 120, lambda: cluster_machine.report(namespace))
