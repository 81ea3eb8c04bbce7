"""A cluster that is as it should be is left alone, and what others break is put right."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitwise_operator.kinds import DEPLOYMENT
from tests.support.operated import Operated, quickstart

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

WATCHED_S = 20.0
REPAIRED_S = 5.0
ACCOUNT = "system:serviceaccount:splitwise-system:splitwise-operator"
READS = {"get", "list", "watch"}


@pytest.fixture
def cluster(operated: Operated, tiny_model: Path) -> Operated:
    """The quickstart, complete and measured."""
    operated.apply(quickstart(tiny_model))
    operated.wait_until_complete()
    operated.wait_until_measured()
    return operated


def writes(cluster: Operated) -> list[dict[str, Any]]:
    """What the operator has written, but for its lease."""
    return [
        request
        for request in cluster.machine.plane.requests_of(ACCOUNT)
        if request["verb"] not in READS and request["objectRef"]["resource"] != "leases"
    ]


def test_what_others_break_is_put_right_and_what_is_theirs_is_left(
    cluster: Operated, tiny_model: Path
) -> None:
    its_links_are_measured(cluster)
    nothing_moves_when_the_same_is_applied_again(cluster, tiny_model)
    every_object_that_is_deleted_comes_back(cluster)
    every_object_that_is_edited_goes_back(cluster)
    what_others_add_stays(cluster)
    cluster.answers(1)


def its_links_are_measured(cluster: Operated) -> None:
    cluster.machine.soon(lambda: knows_pairs(cluster) == [2], cluster.namespace)
    (link,) = cluster.get()["status"]["transfer"]
    assert (link["from"], link["to"], link["failing"]) == ("prompt", "token", 0)
    assert link["transport"] == "tcp"
    assert link["bytesPerSecond"] > 0
    cluster.wait("TransferVerified", "LinksMeasured")


def knows_pairs(cluster: Operated) -> list[int]:
    """Of each two pools, how many pairs of workers the routers know."""
    return [link["pairs"] for link in cluster.get()["status"].get("transfer", [])]


def nothing_moves_when_the_same_is_applied_again(cluster: Operated, tiny_model: Path) -> None:
    cluster.wait_until_complete()
    cluster.machine.soon(lambda: are_available(cluster), cluster.namespace)
    before, written = cluster.versions(), len(writes(cluster))
    cluster.apply(quickstart(tiny_model))
    time.sleep(WATCHED_S)
    assert cluster.versions() == before
    assert writes(cluster)[written:] == []


def are_available(cluster: Operated) -> bool:
    """Whether Kubernetes has said all that it will of the Deployments."""
    return all(
        own["status"].get("availableReplicas", 0) == own["spec"]["replicas"]
        for own in cluster.objects([DEPLOYMENT])
    )


def every_object_that_is_deleted_comes_back(cluster: Operated) -> None:
    for own in cluster.objects():
        kind, name, uid = own["kind"], own["metadata"]["name"], own["metadata"]["uid"]
        cluster.kubectl("delete", kind, name, "--wait=false")
        path = ("get", kind, name, "-n", cluster.namespace, "-o", "jsonpath={.metadata.uid}")

        def is_another(path: tuple[str, ...] = path, uid: str = uid) -> bool:
            found = cluster.machine.kubectl(*path)
            return found.returncode == 0 and found.stdout != uid

        until_repaired(cluster, is_another)
    cluster.wait_until_complete()


EDITS: dict[str, dict[str, Any]] = {
    "ServiceAccount": {"automountServiceAccountToken": True},
    "Role": {"rules": []},
    "NetworkPolicy": {"spec": {"ingress": [{}]}},
    "ConfigMap": {"data": {"endpoints.json": "{}"}},
    "Service": {"spec": {"selector": {"splitwise.dev/pool": "other"}}},
    "PodDisruptionBudget": {"spec": {"maxUnavailable": 9}},
    "Deployment": {"spec": {"replicas": 0}},
    "SplitwisePool": {"metadata": {"labels": {"splitwise.dev/role": "other"}}},
}


def every_object_that_is_edited_goes_back(cluster: Operated) -> None:
    originals = {own["kind"]: own for own in cluster.objects()}
    for kind, edit in EDITS.items():
        own = originals[kind]
        name = own["metadata"]["name"]
        cluster.kubectl("patch", kind, name, "--type=merge", "-p", json.dumps(edit))

        def is_as_before(kind: str = kind, name: str = name, own: Any = own) -> bool:
            now = cluster.machine.get(kind, name, "-n", cluster.namespace)
            labels = now["metadata"]["labels"] == own["metadata"]["labels"]
            parts = ("spec", "data", "rules", "automountServiceAccountToken")
            return labels and all(now.get(part) == own.get(part) for part in parts)

        until_repaired(cluster, is_as_before)


def until_repaired(cluster: Operated, holds: Callable[[], bool]) -> None:
    cluster.machine.soon(holds, cluster.namespace, REPAIRED_S)


def what_others_add_stays(cluster: Operated) -> None:
    pool = "splitwisepool/quickstart-token"
    cluster.kubectl("annotate", "deployment", "quickstart-router", "mesh.example.com/inject=yes")
    cluster.kubectl("scale", pool, "--replicas=3")
    cluster.machine.soon(lambda: len(cluster.pods("token")) == 3, cluster.namespace)
    cluster.wait_until_complete()
    router = cluster.machine.get("deployment", "quickstart-router", "-n", cluster.namespace)
    assert router["metadata"]["annotations"]["mesh.example.com/inject"] == "yes"
    by_name = {own["name"]: own for own in cluster.get()["status"]["pools"]}
    assert by_name["token"]["scaledBy"] == "External"
    assert by_name["prompt"]["scaledBy"] == "Spec"


def test_an_autoscaler_owns_the_replicas_of_its_pool(operated: Operated, tiny_model: Path) -> None:
    document = quickstart(tiny_model)
    token = document["spec"]["pools"][1]
    del token["replicas"]
    token["autoscaling"] = {"by": "External", "minReplicas": 1, "maxReplicas": 2}
    operated.apply(document)
    operated.wait_until_complete()
    hpa = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "token"},
        "spec": {
            "minReplicas": 2,
            "maxReplicas": 2,
            "scaleTargetRef": {
                "apiVersion": "splitwise.dev/v1alpha1",
                "kind": "SplitwisePool",
                "name": "quickstart-token",
            },
        },
    }
    operated.machine.apply(hpa, namespace=operated.namespace)
    operated.machine.soon(lambda: len(operated.pods("token")) == 2, operated.namespace, 60)
    operated.kubectl("delete", "hpa", "token")
    operated.kubectl("scale", "swp/quickstart-token", "--replicas=9")
    operated.wait_until_complete()
    before = {own["metadata"]["name"] for own in operated.pods()}
    assert len(operated.pods("token")) == 2, "never more than maxReplicas"
    del token["autoscaling"]
    operated.apply(document)
    operated.wait_until_complete()
    assert {own["metadata"]["name"] for own in operated.pods()} == before, "no owner drains"
