"""What a cluster's objects are: the same spec gives the same bytes, and every part its due."""

import json
from typing import Any

import pytest

from splitwise_core.spec import SplitwisePool
from splitwise_operator.render import render
from tests.operator.rendered import (
    POOLS,
    called,
    cluster,
    containers,
    deployment,
    one,
    pod,
    revision,
    template,
)


def test_the_same_spec_gives_the_same_bytes() -> None:
    first, second = (json.dumps(render(cluster())) for _ in range(2))
    assert first == second


def test_what_is_left_out_is_the_same_as_its_default() -> None:
    spoken = cluster(router={"port": 8000}, transfer={"leaseSeconds": 10})
    assert render(cluster()) == render(spoken)


def test_what_pods_need_comes_before_them() -> None:
    objects = render(cluster())
    first = next(n for n, o in enumerate(objects) if o["kind"] == "Deployment")
    needed = {"ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "ConfigMap"}
    assert {o["kind"] for o in objects[:first]} >= needed
    assert not needed & {o["kind"] for o in objects[first:]}


def test_workers_of_each_revision_are_a_deployment_of_their_own() -> None:
    before = render(cluster())
    after = render(cluster(model={"name": "tiny", "path": "/models/new"}))
    names = {deployment(objects, "demo-prompt")["metadata"]["name"] for objects in (before, after)}
    assert names == {f"demo-prompt-{revision(o, 'demo-prompt')}" for o in (before, after)}
    assert len(names) == 2
    routers = {
        deployment(objects, "demo-router")["metadata"]["name"] for objects in (before, after)
    }
    assert routers == {"demo-router"}


@pytest.mark.parametrize(("name", "replicas"), [("prompt", 2), ("token", 3)])
def test_a_pool_is_an_object_to_scale_a_headless_service_and_a_deployment(
    name: str, replicas: int
) -> None:
    objects = render(cluster())
    scaled = SplitwisePool.model_validate(one(objects, "SplitwisePool", f"demo-{name}"))
    assert (scaled.spec.cluster, scaled.spec.pool, scaled.spec.replicas) == ("demo", name, replicas)
    service = one(objects, "Service", f"demo-{name}")["spec"]
    assert service["clusterIP"] == "None"
    workers = deployment(objects, f"demo-{name}")["spec"]
    assert workers["replicas"] == replicas
    selected = {"splitwise.dev/cluster": "demo", "splitwise.dev/pool": name}
    assert service["selector"] == selected
    of_revision = selected | {"splitwise.dev/revision": revision(objects, f"demo-{name}")}
    assert workers["selector"]["matchLabels"] == of_revision
    assert of_revision.items() <= workers["template"]["metadata"]["labels"].items()


def test_ports_of_services_are_those_of_their_pods() -> None:
    objects = render(cluster(router={"port": 9000}))
    for service in (o for o in objects if o["kind"] == "Service"):
        spec = pod(objects, called(service))
        opened = {p["name"]: p["containerPort"] for c in containers(spec) for p in c["ports"]}
        for port in service["spec"]["ports"]:
            assert opened[port["targetPort"]] == port["port"]
    assert pod(objects, "demo-router")["containers"][0]["ports"][0]["containerPort"] == 9000


def test_routers_may_see_where_workers_are_and_workers_nothing() -> None:
    objects = render(cluster())
    (rule,) = one(objects, "Role", "demo-router")["rules"]
    assert (rule["resources"], rule["verbs"]) == (["endpointslices"], ["list", "watch"])
    (subject,) = one(objects, "RoleBinding", "demo-router")["subjects"]
    assert subject["name"] == pod(objects, "demo-router")["serviceAccountName"]
    assert pod(objects, "demo-prompt")["serviceAccountName"] == "demo"


def test_a_worker_takes_requests_from_routers_and_kv_from_workers() -> None:
    objects = render(cluster())
    requests, kv, metrics = one(objects, "NetworkPolicy", "demo-workers")["spec"]["ingress"]
    assert [port["port"] for port in requests["ports"]] == [50051]
    assert requests["from"][0]["podSelector"]["matchExpressions"][0]["values"] == ["router"]
    assert [port["port"] for port in kv["ports"]] == [50052, 50053, 50054]
    assert "router" not in kv["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert "from" not in metrics
    off = render(cluster(networkPolicy={"enabled": False}))
    assert not [o for o in off if o["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("name", ["prompt", "token", "router"])
def test_node_drains_take_one_pod_of_a_pool_at_a_time(name: str) -> None:
    budget = one(render(cluster()), "PodDisruptionBudget", f"demo-{name}")["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"]["matchLabels"]["splitwise.dev/pool"] == name


@pytest.mark.parametrize(
    ("changes", "moves"),
    [
        pytest.param(
            {"pools": [POOLS[0] | {"replicas": 9}, POOLS[1]]}, set(), id="replicas: nothing"
        ),
        pytest.param({"meta": {"labels": {"team": "a"}}}, set(), id="the user's labels: nothing"),
        pytest.param(
            {"pools": [POOLS[0] | {"kvMemory": "2Gi"}, POOLS[1]]},
            {"prompt"},
            id="KV memory: a pool",
        ),
        pytest.param({"pools": [POOLS[0], POOLS[1] | {"gpu": {}}]}, {"token"}, id="GPUs: a pool"),
        pytest.param({"router": {"retries": 0}}, {"router"}, id="retries: the router"),
        pytest.param({"router": {"replicas": 4}}, set(), id="routers: nothing"),
        pytest.param(
            {"transfer": {"leaseSeconds": 20}}, {"prompt", "token"}, id="leases: all workers"
        ),
        pytest.param(
            {"model": {"name": "tiny", "path": "/models/new"}},
            {"prompt", "token", "router"},
            id="another model: everything",
        ),
    ],
)
def test_pods_are_replaced_when_something_shapes_them_anew(
    changes: dict[str, Any], moves: set[str]
) -> None:
    before, after = render(cluster()), render(cluster(**changes))
    names = ("prompt", "token", "router")
    moved = {n for n in names if template(before, f"demo-{n}") != template(after, f"demo-{n}")}
    assert moved == moves


@pytest.mark.parametrize(
    ("changes", "is_new"),
    [
        pytest.param({"model": {"name": "tiny", "path": "/models/new"}}, True, id="the model"),
        pytest.param(
            {"model": {"name": "tiny", "path": "/models/tiny", "dtype": "bfloat16"}},
            True,
            id="its weights' type",
        ),
        pytest.param({"transfer": {"leaseSeconds": 20}}, False, id="leases"),
        pytest.param({"transfer": {"tls": {"mode": "Plaintext"}}}, True, id="who can be met"),
        pytest.param(
            {"pools": [POOLS[0] | {"kvMemory": "2Gi"}, POOLS[1]]}, False, id="memory of one pool"
        ),
    ],
)
def test_a_revision_is_what_workers_of_all_pools_must_share(
    changes: dict[str, Any], is_new: bool
) -> None:
    before, after = render(cluster()), render(cluster(**changes))
    assert revision(after, "demo-prompt") == revision(after, "demo-token")
    assert (revision(before, "demo-prompt") != revision(after, "demo-prompt")) == is_new


def test_labels_and_annotations_of_the_user_go_along_and_never_win() -> None:
    meta = {
        "namespace": "team-a",
        "labels": {"team": "a", "app.kubernetes.io/name": "mine"},
        "annotations": {"owner": "me"},
    }
    for item in render(cluster(meta=meta)):
        assert item["metadata"]["namespace"] == "team-a"
        assert item["metadata"]["labels"]["team"] == "a"
        assert item["metadata"]["annotations"]["owner"] == "me"
        if item["kind"] in ("Service", "Deployment"):
            assert item["metadata"]["labels"]["app.kubernetes.io/name"] == "splitwise"
