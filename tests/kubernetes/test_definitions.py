"""SplitwiseCluster and SplitwisePool on a real API server, through kubectl."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitwise_core.manifest import load_cluster, parse_cluster
from splitwise_operator.render import render
from tests.support.control_plane import ControlPlane
from tests.support.manifests import GOOD, changed

pytestmark = pytest.mark.kubernetes

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


def pool_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The SplitwisePool that is rendered for a cluster's pool."""
    objects = render(parse_cluster(document))
    return next(
        made
        for made in objects
        if made["kind"] == "SplitwisePool" and made["metadata"]["name"] == name
    )


@pytest.fixture
def cluster(kube: ControlPlane) -> Iterator[str]:
    """The good cluster and its prompt pool, applied; the cluster's name."""
    objects = [GOOD, pool_of(GOOD, "demo-prompt")]
    applied = kube.kubectl("apply", "-f", "-", objects=objects)
    assert applied.returncode == 0, applied.stderr
    yield "demo"
    deleted = kube.kubectl("delete", "splitwise", "--all", "--wait=true")
    assert deleted.returncode == 0, deleted.stderr


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_taken_and_so_are_its_pools(kube: ControlPlane, example: Path) -> None:
    pools = [made for made in render(load_cluster(example)) if made["kind"] == "SplitwisePool"]
    objects = [yaml.safe_load(example.read_text("utf-8")), *pools]
    done = kube.kubectl("create", "--dry-run=server", "-f", "-", objects=objects)
    assert done.returncode == 0, done.stderr


EVERYTHING = changed(
    "spec.pools",
    [
        {
            "name": "prompt",
            "role": "prompt",
            "replicas": 2,
            "gpu": {"resource": "nvidia.com/gpu", "count": 1},
            "resources": {"cpu": 4, "memory": "16Gi"},
            "nodeSelector": {"gpu.example.com/type": "h100"},
            "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
            "podTemplate": {
                "metadata": {"annotations": {"mesh": "off"}},
                "spec": {"containers": [{"name": "worker", "image": "mine"}]},
            },
        },
        {
            "name": "token",
            "role": "token",
            "kvMemory": "2Gi",
            "autoscaling": {"by": "External", "minReplicas": 2, "maxReplicas": 9},
        },
        {
            "name": "mixed",
            "role": "mixed",
            "autoscaling": {
                "by": "SLO",
                "maxReplicas": 4,
                "slo": {"ttftSeconds": 1.5, "tbtSeconds": 0.05, "percentile": 95},
                "schedule": [
                    {
                        "days": ["Mon", "Fri"],
                        "begins": "08:00",
                        "ends": "18:00",
                        "timeZone": "UTC",
                        "minReplicas": 2,
                    }
                ],
            },
        },
    ],
)
EVERYTHING["spec"]["ratio"] = {"min": 0.5, "max": 2.0}
EVERYTHING["spec"]["model"]["claim"] = "weights"
EVERYTHING["spec"]["transfer"] = {
    "rdma": {"resource": "rdma/hca"},
    "requireRdma": True,
    "tls": {"mode": "Plaintext"},
    "topologyKey": "topology.kubernetes.io/zone",
}
EVERYTHING["metadata"] |= {"labels": {"team": "a"}, "annotations": {"example.com/why": "a test"}}


@pytest.mark.parametrize("document", [GOOD, EVERYTHING], ids=["the least", "every option"])
def test_everything_that_is_rendered_is_taken_as_it_is(
    kube: ControlPlane, document: dict[str, Any]
) -> None:
    objects = render(parse_cluster(document))
    done = kube.kubectl(
        "create", "--dry-run=server", "--warnings-as-errors", "-f", "-", objects=objects
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(objects)


def test_what_is_left_out_is_filled_in_as_the_models_do(kube: ControlPlane, cluster: str) -> None:
    stored = kube.get("swc", cluster)
    own = {name: stored[name] for name in ("apiVersion", "kind", "spec")}
    assert parse_cluster(own | {"metadata": {"name": cluster}}) == parse_cluster(GOOD)
    assert stored["spec"]["router"]["port"] == 8000


def test_applying_the_same_again_changes_nothing(kube: ControlPlane, cluster: str) -> None:
    before = kube.get("swc", cluster)["metadata"]
    again = kube.kubectl("apply", "-f", "-", objects=[GOOD])
    assert again.returncode == 0, again.stderr
    after = kube.get("swc", cluster)["metadata"]
    assert before["resourceVersion"] == after["resourceVersion"]
    assert before["generation"] == after["generation"]


def test_lists_read_well(kube: ControlPlane, cluster: str) -> None:
    clusters = kube.kubectl("get", "swc").stdout.splitlines()
    columns = ["NAME", "MODEL", "READY", "REASON", "PROMPT", "TOKEN", "MIXED", "AGE"]
    assert clusters[0].split() == columns
    assert clusters[1].split()[:2] == [cluster, "tiny"]
    pools = kube.kubectl("get", "swp").stdout.splitlines()
    assert pools[0].split() == ["NAME", "CLUSTER", "ROLE", "DESIRED", "CURRENT", "READY", "AGE"]
    assert pools[1].split()[:4] == ["demo-prompt", "demo", "prompt", "1"]


def test_a_pool_is_scaled_by_kubectl(kube: ControlPlane, cluster: str) -> None:
    done = kube.kubectl("scale", f"swp/{cluster}-prompt", "--replicas=3")
    assert done.returncode == 0, done.stderr
    assert kube.get("swp", f"{cluster}-prompt")["spec"]["replicas"] == 3
    refused = kube.kubectl("scale", f"swp/{cluster}-prompt", "--replicas=0")
    assert "replicas: 0 is for pools that the operator scales" in refused.stderr


def test_the_role_of_a_pool_stays(kube: ControlPlane, cluster: str) -> None:
    pools = [{"name": "prompt", "role": "mixed"}, {"name": "token", "role": "token"}]
    refused = kube.kubectl("apply", "-f", "-", objects=[changed("spec.pools", pools)])
    assert "spec.pools[0].role" in refused.stderr
    assert "add another pool and remove this one" in refused.stderr
    pool = pool_of(GOOD, "demo-prompt")
    pool["spec"]["role"] = "token"
    refused = kube.kubectl("apply", "-f", "-", objects=[pool])
    assert "spec.role" in refused.stderr


def test_pools_may_come_go_and_change_places(kube: ControlPlane, cluster: str) -> None:
    pools = [
        {"name": "token", "role": "token", "replicas": 4},
        {"name": "more", "role": "mixed"},
        {"name": "first", "role": "prompt"},
    ]
    done = kube.kubectl("apply", "-f", "-", objects=[changed("spec.pools", pools)])
    assert done.returncode == 0, done.stderr
    stored = kube.get("swc", cluster)["spec"]["pools"]
    assert [(pool["name"], pool.get("replicas")) for pool in stored] == [
        ("token", 4),
        ("more", None),
        ("first", None),
    ]


def test_kubectl_explains_a_field(kube: ControlPlane) -> None:
    said = kube.kubectl("explain", "swc.spec.pools.kvMemory").stdout
    assert "Memory for the KV-cache of one worker" in said
