"""Who may do what: accounts, the routers' role, network policies, disruption budgets. Pure."""

from typing import Any, Final

from splitwise_core.labels import CLUSTER_LABEL, ROLE_LABEL, ROUTER, WORKER_ROLES
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator import names
from splitwise_operator.names import Object

_RBAC: Final = "rbac.authorization.k8s.io"


def accounts(cluster: SplitwiseCluster) -> list[Object]:
    """Workers may ask the API server for nothing; routers may see where workers are."""
    workers = cluster.metadata.name
    routers = names.object_name(cluster, ROUTER)
    return [
        *(_account(cluster, name) for name in (workers, routers)),
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "Role",
            "metadata": names.metadata(cluster, routers),
            "rules": [
                {
                    "apiGroups": ["discovery.k8s.io"],
                    "resources": ["endpointslices"],
                    "verbs": ["list", "watch"],
                }
            ],
        },
        {
            "apiVersion": f"{_RBAC}/v1",
            "kind": "RoleBinding",
            "metadata": names.metadata(cluster, routers),
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": routers},
            "subjects": [
                {
                    "kind": "ServiceAccount",
                    "name": routers,
                    "namespace": cluster.metadata.namespace,
                }
            ],
        },
    ]


def network_policies(cluster: SplitwiseCluster) -> list[Object]:
    """Requests from the cluster's routers, KV from its workers; metrics and the API are open."""
    if not cluster.spec.network_policy.enabled:
        return []
    of_cluster = {CLUSTER_LABEL: cluster.metadata.name}
    routers = _pods(of_cluster, [ROUTER])
    workers = _pods(of_cluster, list(WORKER_ROLES))
    return [
        _policy(
            cluster,
            "workers",
            workers,
            [
                _allow([names.WORKER_PORT], routers),
                _allow(list(names.KV_PORTS), workers),
                _allow([names.WORKER_STATUS_PORT, names.SIDECAR_STATUS_PORT]),
            ],
        ),
        _policy(cluster, ROUTER, routers, [_allow([cluster.spec.router.port])]),
    ]


def disruption_budget(cluster: SplitwiseCluster, pool: str, role: str) -> Object:
    """Node drains take one pod of a pool at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(
            cluster, names.object_name(cluster, pool), names.labels(cluster, pool, role)
        ),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": names.selector(cluster, pool)},
        },
    }


def _account(cluster: SplitwiseCluster, name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.metadata(cluster, name),
        "automountServiceAccountToken": False,  # a pod that needs a token asks for it itself
    }


def _pods(labels: dict[str, str], roles: list[str]) -> Object:
    role = {"key": ROLE_LABEL, "operator": "In", "values": roles}
    return {"matchLabels": labels, "matchExpressions": [role]}


def _allow(ports: list[int], pods: Object | None = None) -> Object:
    made: dict[str, Any] = {"ports": [{"port": port, "protocol": "TCP"} for port in ports]}
    return made if pods is None else made | {"from": [{"podSelector": pods}]}


def _policy(cluster: SplitwiseCluster, part: str, pods: Object, ingress: list[Object]) -> Object:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.metadata(cluster, names.object_name(cluster, part)),
        "spec": {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": ingress},
    }
