"""What an API server alone refuses: no webhook, and no operator is running."""

from typing import Any

import pytest

from splitwise_core.errors import UserError
from splitwise_core.manifest import parse_cluster
from tests.support.control_plane import ControlPlane
from tests.support.manifests import GOOD, changed, put

pytestmark = pytest.mark.kubernetes

BOUNDS = {
    "spec.model.maxLength": (16, None),
    "spec.pools.0.replicas": (1, 1000),
    "spec.pools.0.maxSequences": (1, 1024),
    "spec.pools.0.gpu.count": (1, 1),
    "spec.scheduling.promptBatchTokens": (1, 131072),
    "spec.scheduling.overflowTokens": (0, 2**31 - 1),
    "spec.scheduling.repurposeSeconds": (1, 86400),
    "spec.transfer.leaseSeconds": (2, 300),
    "spec.router.replicas": (1, 100),
    "spec.router.port": (1, 65535),
    "spec.router.requestTimeoutSeconds": (1, 86400),
    "spec.router.maxQueuedRequests": (0, 100_000),
    "spec.router.maxQueueSeconds": (0.1, 600),
    "spec.router.wakeSeconds": (1, 3600),
    "spec.router.maxBodyBytes": (1024, 2**28),
    "spec.router.retries": (0, 10),
    "spec.rollout.drainSeconds": (1, 86400),
}
TOO_SMALL = [(path, low - 1) for path, (low, _) in BOUNDS.items()]
TOO_LARGE = [(path, high + 1) for path, (_, high) in BOUNDS.items() if high is not None]
TEXT = [(path, str(low)) for path, (low, _) in BOUNDS.items()]
MAPPINGS = ["spec", "spec.model", "spec.pools.0", "spec.pools.0.resources", "spec.pools.0.gpu"]
MAPPINGS += [
    "spec.transfer.tls",
    "spec.scheduling",
    "spec.transfer",
    "spec.router",
    "spec.networkPolicy",
    "spec.rollout",
]
MAPPINGS += ["spec.pools.0.podTemplate", "spec.pools.0.podTemplate.metadata"]
UNKNOWN = [(f"{path}.colour", "blue") for path in MAPPINGS]
QUANTITIES = {
    "spec.pools.0.kvMemory": ("1023Ki", "17Ti", "use 1Mi to 16Ti"),
    "spec.pools.0.resources.cpu": ("9m", "1001", "use 10m to 1k"),
    "spec.pools.0.resources.memory": ("1k", "17Ti", "use 1Mi to 16Ti"),
}
QUANTITY = [
    (path, value, said)
    for path, (small, large, said) in QUANTITIES.items()
    for value, said in ((small, said), (large, said), ("1 GB", "should match"), (0, said))
]
OTHERS: list[tuple[str, object, str]] = [
    ("metadata.name", "x" * 41, "at most 40 lower-case letters"),
    ("metadata.name", "1st", "a letter first"),
    ("metadata.name", "Demo", "lower case"),
    ("metadata.labels", {"a": True}, "labels"),
    ("metadata.labels", {"a b": "c"}, "labels"),
    ("apiVersion", "splitwise.dev/v2", "splitwise.dev/v2"),
    ("spec", ..., "spec: Required value"),
    ("spec.model", ..., "spec.model: Required value"),
    ("spec.model.name", ..., "spec.model.name: Required value"),
    ("spec.model.name", "", "spec.model.name"),
    ("spec.model.name", "two words", "spec.model.name"),
    ("spec.model.name", "x" * 121, "spec.model.name: Too long"),
    ("spec.model.path", ..., "spec.model.path: Required value"),
    ("spec.model.path", "~/m", "spec.model.path"),
    ("spec.model.path", "a\x01b", "spec.model.path"),
    ("spec.model.dtype", "fp8", '"bfloat16"'),
    ("spec.scheduling", {"disaggregation": "Sometimes"}, '"Auto"'),
    ("spec.scheduling", {"disaggregation": "Never", "borrowing": False}, "leave it out"),
    ("spec.pools", ..., "spec.pools: Required value"),
    ("spec.pools", [], "spec.pools"),
    ("spec.pools", {}, "spec.pools"),
    ("spec.pools.0.name", ..., "name"),
    ("spec.pools.0.name", "Prompt!", "spec.pools[0].name"),
    ("spec.pools.0.name", "p" * 41, "spec.pools[0].name"),
    ("spec.pools.0.name", "router", "call the pool otherwise"),
    ("spec.pools.0.role", ..., "spec.pools[0].role: Required value"),
    ("spec.pools.0.role", "promt", '"prompt"'),
    ("spec.pools.0.role", "token", "add a pool of role prompt or mixed"),
    ("spec.pools.1.role", "prompt", "add a pool of role token or mixed"),
    ("spec.pools.1.name", "prompt", "Duplicate value"),
    ("spec.pools.0.replicas", 1.5, "replicas"),
    ("spec.pools.0.replicas", True, "replicas"),
    ("spec.pools.0.gpu.resource", "gpu", "spec.pools[0].gpu.resource"),
    ("spec.pools.0.nodeSelector", {"zone": 1}, "nodeSelector.zone"),
    ("spec.pools.0.nodeSelector", {"zone": "a b"}, "nodeSelector.zone"),
    ("spec.pools.0.nodeSelector", {"zone/": "a"}, "nodeSelector"),
    ("spec.transfer.transport", "UDP", '"Auto"'),
    ("spec.router", [], "spec.router"),
    ("spec.model.claim", "Weights!", "spec.model.claim"),
    ("spec.pools.0.autoscaling", {"by": "External"}, "maxReplicas: Required value"),
    ("spec.pools.0.autoscaling", {"maxReplicas": 3}, "by: Required value"),
    ("spec.pools.0.autoscaling", {"by": "Me", "maxReplicas": 3}, '"External"'),
    (
        "spec.pools.0.autoscaling",
        {"by": "External", "minReplicas": 4, "maxReplicas": 3},
        "minReplicas: it is above maxReplicas",
    ),
    (
        "spec.pools.0.autoscaling",
        {"by": "External", "minReplicas": 0, "maxReplicas": 3},
        "by External it is at least 1",
    ),
    (
        "spec.pools.0.autoscaling",
        {"by": "Load", "minReplicas": 0, "maxReplicas": 3},
        "zero is of all pools together",
    ),
    ("spec.pools.0.autoscaling", {"by": "SLO", "maxReplicas": 3}, "by SLO needs targets"),
    (
        "spec.pools.0.autoscaling",
        {"by": "Load", "maxReplicas": 3, "slo": {"ttftSeconds": 1.0, "tbtSeconds": 0.1}},
        "only by SLO uses it",
    ),
    (
        "spec.pools.0.autoscaling",
        {
            "by": "Load",
            "maxReplicas": 3,
            "schedule": [{"begins": "08:00", "ends": "18:00", "minReplicas": 4}],
        },
        "schedule: a minReplicas is above maxReplicas",
    ),
    (
        "spec.pools.0.autoscaling",
        {
            "by": "External",
            "maxReplicas": 3,
            "schedule": [{"begins": "08:00", "ends": "18:00", "minReplicas": 2}],
        },
        "by External uses none",
    ),
    (
        "spec.pools.0.autoscaling",
        {
            "by": "Load",
            "maxReplicas": 3,
            "schedule": [{"begins": "8", "ends": "18:00", "minReplicas": 2}],
        },
        "begins",
    ),
    ("spec.ratio", {"min": 2.0, "max": 1.0}, "min: it is above max"),
    ("spec.pools.0.tolerations", [{"value": "a"}], "write operator: Exists"),
    (
        "spec.pools.0.tolerations",
        [{"key": "a", "operator": "Exists", "value": "b"}],
        "Exists compares no value",
    ),
    ("spec.pools.0.tolerations", [{"key": "a", "effect": "Never"}], '"NoSchedule"'),
    ("spec.pools.0.tolerations", {"key": "a"}, "spec.pools[0].tolerations"),
    (
        "spec.pools.0.podTemplate.metadata.labels",
        {"splitwise.dev/role": "x"},
        "set by Splitwise itself",
    ),
    ("spec.pools.0.podTemplate.metadata.labels", {"a b": "c"}, "not one of a label"),
    ("spec.pools.0.podTemplate.spec", [], "podTemplate.spec"),
    ("spec.router.podTemplate.metadata.annotations", {"a": 1}, "annotations.a"),
    ("spec.transfer.requireRdma", True, "say which resource the nodes offer"),
    ("spec.transfer.requireRdma", "yes", "requireRdma"),
    ("spec.transfer.transport", "RDMA", "transport RDMA needs devices"),
    ("spec.transfer.rdma", {"count": 1}, "spec.transfer.rdma.resource: Required value"),
    ("spec.transfer.rdma", {"resource": "hca"}, "spec.transfer.rdma.resource"),
    ("spec.transfer.rdma", {"resource": "rdma/hca", "count": 17}, "spec.transfer.rdma.count"),
    (
        "spec.transfer",
        {"rdma": {"resource": "rdma/hca"}, "requireRdma": True, "transport": "GRPC"},
        "transport: what is named is no RDMA",
    ),
    (
        "spec.transfer",
        {"rdma": {"resource": "rdma/hca"}, "transport": "RDMA"},
        "tls.mode: RDMA encrypts nothing",
    ),
    (
        "spec.transfer",
        {"rdma": {"resource": "rdma/hca"}, "requireRdma": True, "tls": {"mode": "Auto"}},
        "tls.mode: RDMA encrypts nothing",
    ),
    ("spec.transfer.tls.mode", False, "spec.transfer.tls.mode"),
    ("spec.transfer.tls.mode", "Off", '"Plaintext"'),
    ("spec.transfer.tls", {"mode": "Secret"}, "secretName: mode Secret takes a Secret"),
    ("spec.transfer.tls", {"secretName": "a"}, "secretName: only mode Secret uses it"),
    ("spec.transfer.tls", {"serverName": "a.b"}, "serverName: only mode Secret uses it"),
    (
        "spec.transfer.tls",
        {"mode": "Plaintext", "secretName": "a"},
        "secretName: only mode Secret uses it",
    ),
    ("spec.transfer.tls", {"mode": "Secret", "secretName": "A b"}, "spec.transfer.tls.secretName"),
    ("spec.transfer.topologyKey", "a key", "spec.transfer.topologyKey"),
    ("spec.networkPolicy.enabled", "no", "spec.networkPolicy.enabled"),
]


def field_of(path: str) -> str:
    """How the API server names the place."""
    return path.replace(".0", "[0]").replace(".1", "[1]")


CASES = [
    *((path, value, field_of(path)) for path, value in TOO_SMALL + TOO_LARGE + TEXT + UNKNOWN),
    *QUANTITY,
    *OTHERS,
]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    CASES,
    ids=[f"{path} = {str(value)[:20]}" for path, value, _ in CASES],
)
def test_a_mistake_is_refused_with_its_place_and_the_fix(
    kube: ControlPlane, path: str, value: object, said: str
) -> None:
    document = changed(path, value)
    done = kube.kubectl("create", "--dry-run=server", "-f", "-", objects=[document])
    assert done.returncode != 0
    assert said in done.stderr
    with pytest.raises(UserError):
        parse_cluster(document)


def test_replicas_have_one_owner(kube: ControlPlane) -> None:
    document = changed("spec.pools.0.autoscaling", {"by": "External", "maxReplicas": 3})
    done = kube.kubectl("create", "--dry-run=server", "-f", "-", objects=[document])
    assert done.returncode == 0, done.stderr
    document["spec"]["pools"][0]["replicas"] = 2
    done = kube.kubectl("create", "--dry-run=server", "-f", "-", objects=[document])
    assert "leave out one of them" in done.stderr
    with pytest.raises(UserError):
        parse_cluster(document)


def test_names_that_do_not_fit_together(kube: ControlPlane) -> None:
    document = changed("metadata.name", "c" * 40)
    document["spec"]["pools"][1]["name"] = "p" * 30
    done = kube.kubectl("create", "--dry-run=server", "-f", "-", objects=[document])
    assert "shorten the cluster's or the pool's name" in done.stderr


def edge(which: int) -> dict[str, Any]:
    """A cluster in which every number is the least or the most that it may be."""
    document = changed("spec.model.dtype", "auto")
    for path, bounds in BOUNDS.items():
        put(document, path, bounds[0] if bounds[which] is None else bounds[which])
    return document


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(GOOD, id="as little as there must be"),
        pytest.param(edge(0), id="every least number"),
        pytest.param(edge(1), id="every largest number"),
        pytest.param(changed("spec.pools.0.kvMemory", 2**30), id="a quantity as a number"),
        pytest.param(changed("spec.pools.0.resources.cpu", 2), id="cores as a number"),
        pytest.param(changed("spec.pools", [{"name": "m", "role": "mixed"}]), id="mixed alone"),
        pytest.param(changed("spec.transfer.tls", {"mode": "Plaintext"}), id="plaintext"),
        pytest.param(
            changed("spec.transfer.tls", {"mode": "Secret", "secretName": "kv.tls"}), id="a Secret"
        ),
    ],
)
def test_what_is_right_is_taken(kube: ControlPlane, document: dict[str, Any]) -> None:
    parse_cluster(document)
    done = kube.kubectl("create", "--dry-run=server", "-f", "-", objects=[document])
    assert done.returncode == 0, done.stderr
