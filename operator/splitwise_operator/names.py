"""Names, labels and paths that rendered objects share, and a cluster's revision."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import sha256
from typing import Any, Final

from splitwise_core.fields import GROUP
from splitwise_core.labels import CLUSTER_LABEL, POOL_LABEL, ROLE_LABEL, ROUTER
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator.images import Images

Object = dict[str, Any]
"""A Kubernetes object as it is applied."""

MODEL_DIR: Final = "/models/model"
RUN_DIR: Final = "/run/splitwise"
ENDPOINTS_DIR: Final = "/etc/splitwise/endpoints"
ENDPOINTS_FILE: Final = "endpoints.json"
ENDPOINTS_ANNOTATION: Final = f"{GROUP}/endpoints"
"""Marks the ConfigMap that whoever knows the pods keeps filled with the workers' addresses."""

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "splitwise"
"""Value of that label on all objects of all clusters."""

ASKED_REPLICAS: Final = f"{GROUP}/asked-replicas"
"""Annotation of a SplitwisePool: the replicas that the SplitwiseCluster asked for last."""

DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""Annotation of a pod, Kubernetes' own: a ReplicaSet that shrinks deletes those of lower cost."""

WORKER_PORT: Final = 50051
SIDECAR_PORT: Final = 50052
SIDECAR_TCP_PORT: Final = 50053
SIDECAR_GRPC_PORT: Final = 50054
KV_PORTS: Final = (SIDECAR_PORT, SIDECAR_TCP_PORT, SIDECAR_GRPC_PORT)
WORKER_STATUS_PORT: Final = 9101
SIDECAR_STATUS_PORT: Final = 9102


def selector(cluster: SplitwiseCluster, pool: str) -> dict[str, str]:
    """The labels by which a pool's pods are found; they never change."""
    return {CLUSTER_LABEL: cluster.metadata.name, POOL_LABEL: pool}


def common_labels(cluster: SplitwiseCluster) -> dict[str, str]:
    """The labels of every object of the cluster."""
    return {
        "app.kubernetes.io/name": "splitwise",
        "app.kubernetes.io/instance": cluster.metadata.name,
        MANAGED_BY_LABEL: MANAGER,
        CLUSTER_LABEL: cluster.metadata.name,
    }


def labels(cluster: SplitwiseCluster, pool: str, role: str) -> dict[str, str]:
    """All labels of a pool's objects."""
    return {
        **common_labels(cluster),
        "app.kubernetes.io/component": "router" if role == ROUTER else "worker",
        POOL_LABEL: pool,
        ROLE_LABEL: role,
    }


def metadata(cluster: SplitwiseCluster, name: str, own: Mapping[str, str] | None = None) -> Object:
    """Metadata of an object of the cluster; a user's labels and annotations go along."""
    made: Object = {
        "name": name,
        "namespace": cluster.metadata.namespace,
        "labels": {**cluster.metadata.labels, **(own or common_labels(cluster))},
    }
    if cluster.metadata.annotations:
        made["annotations"] = dict(cluster.metadata.annotations)
    return made


def object_name(cluster: SplitwiseCluster, part: str) -> str:
    """`<cluster>-<part>`."""
    return f"{cluster.metadata.name}-{part}"


def worker_set(cluster: SplitwiseCluster, pool: str, of_revision: str) -> str:
    """The name of the Deployment that holds a pool's workers of one revision."""
    return f"{object_name(cluster, pool)}-{of_revision}"


def revision(cluster: SplitwiseCluster, images: Images) -> str:
    """Ten hex digits over what workers that hand over KV must share: model, code, certificates.

    What shapes the pods of one pool alone is not in it: that pool's pods are replaced one by one,
    and old and new ones work with the other pools all the while.
    """
    shared = {
        "model": cluster.spec.model.model_dump(),
        "images": asdict(images),
        "tls": cluster.spec.transfer.tls.model_dump(),
    }
    return sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:10]
