"""A SplitwiseCluster as the API server has it: to the model that all else reads."""

from typing import Any, Final

from splitwise_core.errors import UserError
from splitwise_core.manifest import parse_cluster
from splitwise_core.spec import API_VERSION, SplitwiseCluster
from splitwise_operator.names import Object

_NOT_OURS: Final = ("kubectl.kubernetes.io/", "argocd.argoproj.io/", "meta.helm.sh/")
"""Annotations with which tools mark what they have applied: they are not to mark our objects."""


def cluster_of(body: Object) -> SplitwiseCluster:
    """The cluster. Raises UserError for what neither schema nor API server can refuse."""
    meta = body["metadata"]
    marks = meta.get("annotations") or {}
    own: dict[str, Any] = {
        "name": meta["name"],
        "namespace": meta["namespace"],
        "labels": dict(meta.get("labels") or {}),
        "annotations": {k: v for k, v in marks.items() if not k.startswith(_NOT_OURS)},
    }
    kinds = {"apiVersion": API_VERSION, "kind": "SplitwiseCluster"}
    where = f"SplitwiseCluster {meta['namespace']}/{meta['name']}"
    cluster = parse_cluster({**kinds, "metadata": own, "spec": body["spec"]}, where)
    if not cluster.spec.model.path.startswith("/"):
        raise UserError(
            "invalid-spec",
            where="spec.model.path",
            wrong=f"{cluster.spec.model.path!r} is relative, and nodes have no working directory",
            fix="write the directory on the nodes, or in the claim, from / on",
        )
    return cluster


def owner(body: Object) -> Object:
    """The owner reference of a cluster's objects: they go with it, whoever still runs."""
    meta = body["metadata"]
    return {
        "apiVersion": API_VERSION,
        "kind": "SplitwiseCluster",
        "name": meta["name"],
        "uid": meta["uid"],
        "controller": True,
        "blockOwnerDeletion": False,
    }
