"""From nothing to right answers and back, as the docs tell it: helm, kubectl, an OpenAI client."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from splitwise_operator.kinds import APPLIED, POOL
from tests.helm.release import NAMESPACE, Helm
from tests.support.cluster import SPLITWISE
from tests.support.installed import RELEASE
from tests.support.machine import Machine
from tests.support.operated import FOLLOWING, Operated, quickstart

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]


def test_install_serve_delete_uninstall(
    helm: Helm, cluster_machine: Machine, namespace: str, tiny_model: Path
) -> None:
    kube, operated = cluster_machine, Operated(cluster_machine, namespace)
    helm.do("install", *RELEASE)

    operated.apply(quickstart(tiny_model))
    operated.wait("Progressing", "Creating", within_s=30)
    assert operated.condition("Ready")["status"] == "False"
    waited = kube.kubectl(
        "wait", "--for=condition=Ready", "swc/quickstart", "-n", namespace, "--timeout=55s"
    )
    if waited.returncode:
        operated.wait_until_complete()
    operated.wait("Progressing", "Complete")
    operated.answers()

    clusters, pools = operated.kubectl("get", "swc,swp").strip().split("\n\n")
    assert clusters.splitlines()[1].split()[1:6] == ["tiny", "True", "Serving", "1/1", "2/2"]
    assert [line.split()[1:6] for line in pools.splitlines()[1:]] == [
        ["quickstart", "prompt", "1", "1", "1"],
        ["quickstart", "token", "2", "2", "2"],
    ]
    told = operated.kubectl("describe", "swc", "quickstart")
    assert "Ready is True" in told
    watched = seen_by_top(kube, namespace)
    assert watched["ready"]
    assert {pool["name"]: (pool["ready"], pool["desired"]) for pool in watched["pools"]} == {
        "prompt": (1, 1),
        "token": (2, 2),
    }

    operated.kubectl("delete", "swc", "quickstart")
    everything = (*APPLIED, *FOLLOWING)
    kube.soon(lambda: not operated.objects(everything), namespace)

    helm.do("uninstall", "splitwise", "--namespace", NAMESPACE, "--wait")
    left = kube.kubectl("get", "crd", "-o", "name").stdout.split()
    definitions = "customresourcedefinition.apiextensions.k8s.io"
    assert set(left) == {
        f"{definitions}/splitwiseclusters.splitwise.dev",
        f"{definitions}/splitwisepools.splitwise.dev",
    }
    ours = ("-n", NAMESPACE, "--selector=app.kubernetes.io/name=splitwise")
    kinds = ",".join(kind.plural for kind in APPLIED if kind is not POOL)
    kinds += ",clusterroles,clusterrolebindings"
    kube.soon(lambda: not kube.get(kinds, *ours)["items"], NAMESPACE)


def seen_by_top(kube: Machine, namespace: str) -> dict[str, Any]:
    """What `splitwise top` tells of the cluster, through the API server alone."""
    done = subprocess.run(
        [SPLITWISE, "top", "-c", "quickstart", "-n", namespace, "--once", "-o", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | {"KUBECONFIG": str(kube.kubeconfig)},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
