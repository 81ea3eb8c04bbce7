"""Names, labels and paths that rendered objects share, and a cluster's revision."""

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from splitwise_core.spec import GROUP, SplitwiseCluster

Object = dict[str, Any]
"""A Kubernetes object as it is applied."""

MODEL_DIR: Final = "/models/model"
RUN_DIR: Final = "/run/splitwise"
ENDPOINTS_DIR: Final = "/etc/splitwise/endpoints"
ENDPOINTS_FILE: Final = "endpoints.json"
ENDPOINTS_ANNOTATION: Final = f"{GROUP}/endpoints"
"""Marks the ConfigMap that whoever knows the pods keeps filled with the workers' addresses."""

ROLE_LABEL: Final = f"{GROUP}/role"
POOL_LABEL: Final = f"{GROUP}/pool"
CLUSTER_LABEL: Final = f"{GROUP}/cluster"
REVISION_LABEL: Final = f"{GROUP}/revision"

ROUTER: Final = "router"

WORKER_PORT: Final = 50051
SIDECAR_PORT: Final = 50052
WORKER_STATUS_PORT: Final = 9101
SIDECAR_STATUS_PORT: Final = 9102


def selector(cluster: SplitwiseCluster, pool: str) -> dict[str, str]:
    """The labels by which a pool's pods are found; they never change."""
    return {CLUSTER_LABEL: cluster.metadata.name, POOL_LABEL: pool}


def labels(cluster: SplitwiseCluster, pool: str, role: str) -> dict[str, str]:
    """All labels of a pool's objects."""
    return {
        "app.kubernetes.io/name": "splitwise",
        "app.kubernetes.io/instance": cluster.metadata.name,
        "app.kubernetes.io/component": "router" if role == ROUTER else "worker",
        "app.kubernetes.io/managed-by": "splitwise",
        **selector(cluster, pool),
        ROLE_LABEL: role,
    }


def metadata(cluster: SplitwiseCluster, name: str, own: Mapping[str, str]) -> Object:
    """Metadata of an object of the cluster; a user's labels and annotations go along."""
    made: Object = {
        "name": name,
        "namespace": cluster.metadata.namespace,
        "labels": {**cluster.metadata.labels, **own},
    }
    if cluster.metadata.annotations:
        made["annotations"] = dict(cluster.metadata.annotations)
    return made


def object_name(cluster: SplitwiseCluster, part: str) -> str:
    """`<cluster>-<part>`."""
    return f"{cluster.metadata.name}-{part}"


def revision(cluster: SplitwiseCluster) -> str:
    """Ten hex digits over what workers that hand over KV must have in common: the model.

    What shapes the pods of one pool alone is not in it: that pool's pods are replaced one by one,
    and old and new ones work with the other pools all the while.
    """
    canonical = json.dumps(cluster.spec.model.model_dump(), sort_keys=True).encode()
    return sha256(canonical).hexdigest()[:10]
