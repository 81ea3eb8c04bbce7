"""The strictest Pod Security level takes our pods, and the operator uses all that it may."""

from pathlib import Path
from typing import Any

import pytest

from splitwise_operator.kinds import DEPLOYMENT
from tests.helm.release import NAMESPACE
from tests.support.kube_objects import volume
from tests.support.operated import Operated, quickstart

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

ACCOUNT = f"system:serviceaccount:{NAMESPACE}:splitwise-operator"
TO_GRANT = {("endpointslices", "list"), ("endpointslices", "watch")}
"""Nobody grants what he may not do himself; routers do it."""

Right = tuple[str, str]


def pools(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "role": "mixed", "kvMemory": "64Mi"} for name in names]


def test_a_restricted_namespace_and_every_right(operated: Operated, tiny_model: Path) -> None:
    level = "pod-security.kubernetes.io/enforce=restricted"
    operated.machine.kubectl("label", "namespace", operated.namespace, level)
    disk = volume(f"{operated.namespace}-models", tiny_model.parent)
    operated.machine.apply(*disk, namespace=operated.namespace)
    document = quickstart(tiny_model, pools=pools("one", "two"))
    document["spec"]["pools"][1]["replicas"] = 2
    document["spec"]["model"] |= {"claim": "models", "path": f"/{tiny_model.name}"}
    operated.apply(document)
    operated.wait_until_complete()
    operated.answers(2)

    document["spec"] |= {"pools": pools("two"), "networkPolicy": {"enabled": False}}
    document["spec"]["pools"][0]["replicas"] = 1  # one of the two has to go
    operated.apply(document)
    operated.wait_until_complete()
    assert len(operated.objects([DEPLOYMENT])) == 2, "the pool's and the routers'"
    operated.answers(1)
    assert used(operated) | TO_GRANT == granted(operated)


def granted(operated: Operated) -> set[Right]:
    """(resource, verb): all that the chart's roles allow."""
    get = operated.machine.get
    roles = [
        get("clusterrole", "splitwise-operator"),
        get("role", "splitwise-operator-lease", "-n", NAMESPACE),
    ]
    rules = [rule for role in roles for rule in role["rules"]]
    return {(r, verb) for rule in rules for r in rule["resources"] for verb in rule["verbs"]}


def installed_at(operated: Operated) -> str:
    """When the operator that runs was, as the audit log writes it."""
    deployment = operated.machine.get("deployment", "splitwise-operator", "-n", NAMESPACE)
    return str(deployment["metadata"]["creationTimestamp"])


def used(operated: Operated) -> set[Right]:
    """(resource, verb): all that the operator has been allowed, as the API server saw it."""
    found = set()
    since = installed_at(operated)
    for request in operated.machine.plane.requests_of(ACCOUNT):
        what, code = request.get("objectRef", {}), request.get("responseStatus", {}).get("code")
        if "resource" not in what:
            continue  # what the API server has: everybody may ask, but while it starts
        if request["annotations"]["authorization.k8s.io/decision"] == "forbid":
            # An operator of another module may: as it is uninstalled, it loses its rights.
            assert request["requestReceivedTimestamp"] < since, request
            continue
        resource = "/".join(part for part in (what["resource"], what.get("subresource")) if part)
        found.add((resource, request["verb"]))
        if request["verb"] == "patch" and code == 201:
            found.add((resource, "create"))  # an apply of what was not there
    return found
