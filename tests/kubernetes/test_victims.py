"""Kubernetes' own ReplicaSet controller deletes the pods that the operator has marked."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.client.api_client import ApiClient

from splitwise_core.metric import Component
from splitwise_core.telemetry import Telemetry
from splitwise_operator.kinds import DEPLOYMENT, POD
from splitwise_operator.kube import Kube
from splitwise_operator.names import WORKER_STATUS_PORT
from splitwise_operator.observed import Seen, seen
from splitwise_operator.victims import Victims
from tests.operator.test_autoscaler import load, page
from tests.support.cluster import eventually
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.kube_programs import NEEDS, programs

pytestmark = pytest.mark.kubernetes

Object = dict[str, Any]
NAME = "demo-token-r1"
LABELS = {
    "splitwise.dev/pool": "token",
    "splitwise.dev/role": "token",
    "splitwise.dev/revision": "r1",
}
WORKERS = 5


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """With its controllers, and no node: pods are as the test says."""
    found = programs()
    if found is None:
        pytest.skip(NEEDS)
    with control_plane(found, tmp_path, with_controllers=True) as running:
        yield running


def deployment() -> Object:
    container = {"name": "worker", "image": "none"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "labels": LABELS},
        "spec": {
            "replicas": WORKERS,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}},
        },
    }


def pods(plane: ControlPlane) -> list[Object]:
    found: list[Object] = plane.read(POD.path("default"))["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]


def make_ready(plane: ControlPlane) -> dict[str, str]:
    """Says of every pod that it runs, as a kubelet would; the pods' names by address."""
    addresses = {f"127.78.0.{number}": pod for number, pod in enumerate(pods(plane), 1)}
    with plane.http() as api:
        for address, pod in addresses.items():
            ready = {"type": "Ready", "status": "True"}
            status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
            answer = api.patch(
                f"{POD.path('default', pod['metadata']['name'])}/status",
                json={"status": status | {"conditions": [ready]}},
                headers={"content-type": "application/strategic-merge-patch+json"},
            )
            assert answer.status_code == 200, answer.text
    return {address: pod["metadata"]["name"] for address, pod in addresses.items()}


def known(plane: ControlPlane) -> dict[tuple[str, str], Seen]:
    """What the operator sees of the pool."""
    bodies = [("Pod", pod) for pod in pods(plane)]
    bodies += [("Deployment", plane.read(DEPLOYMENT.path("default", NAME)))]
    return {(one.kind, one.name): one for one in (seen(kind, body) for kind, body in bodies)}


@asynccontextmanager
async def operator_of(plane: ControlPlane) -> AsyncIterator[Kube]:
    made = Configuration()
    await config.load_kube_config(str(plane.kubeconfig), client_configuration=made)
    async with ApiClient(made) as api:
        yield Kube(api)


async def shrink(plane: ControlPlane, work: dict[str, int], left: int) -> None:
    """Marks, while workers at these addresses tell how many tokens they hold, and scales."""
    async with AsyncExitStack() as stack:
        for address, held in work.items():
            body = dumps(asdict(load(kv_taken=held))).encode()
            await stack.enter_async_context(page(address, WORKER_STATUS_PORT, lambda b=body: b))
        kube = await stack.enter_async_context(operator_of(plane))
        victims = Victims(kube, Telemetry(Component.OPERATOR), logging.getLogger("test"))
        await victims.mark(known(plane), {("token", "r1"): left})
        await kube.scale(DEPLOYMENT, "default", NAME, left)


def test_the_busiest_workers_stay(plane: ControlPlane) -> None:
    created = plane.kubectl("create", "-f", "-", objects=[deployment()])
    assert created.returncode == 0, created.stderr
    eventually(lambda: len(pods(plane)) == WORKERS, 30, lambda: str(pods(plane)))
    names = make_ready(plane)
    work = {address: 100 * number for number, address in enumerate(names)}
    for left in (WORKERS - 2, 1):
        asyncio.run(shrink(plane, work, left))
        eventually(lambda: len(pods(plane)) == left, 30, lambda: str(pods(plane)))  # noqa: B023
        busiest = sorted(names, key=lambda address: -work[address])[:left]
        assert {pod["metadata"]["name"] for pod in pods(plane)} == {names[a] for a in busiest}
