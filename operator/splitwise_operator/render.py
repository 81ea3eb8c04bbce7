"""From a SplitwiseCluster to every object of it. Pure: no kopf, no client, no clock."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from splitwise_core.labels import CLUSTER_LABEL, REVISION_LABEL, ROUTER
from splitwise_core.spec import API_VERSION, SplitwiseCluster
from splitwise_core.spec_pool import Pool
from splitwise_operator import names, pods
from splitwise_operator.access import accounts, disruption_budget, network_policies
from splitwise_operator.images import Images
from splitwise_operator.merge import with_template
from splitwise_operator.names import Object

LOCAL: Final = Images()

SETTLE_SECONDS: Final = 3
"""So long is a new pod ready before an old one goes: routers hear of it through the API server, and
meet it within a second or two."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Workers of a pool: `desired` in the SplitwisePool, `workers` of the current revision.

    They differ while a new revision takes over. `asked` is what the cluster's spec asks for; None
    when it leaves the number to others.
    """

    desired: int
    workers: int
    asked: int | None


def render(
    cluster: SplitwiseCluster,
    images: Images = LOCAL,
    counts: Mapping[str, Counts] | None = None,
) -> list[Object]:
    """Every object the cluster should have, in apply order. Same arguments, same bytes.

    `counts` are by pool; a pool that is not among them has as many workers as it begins with.
    """
    known = counts or {}
    return [
        *accounts(cluster),
        *network_policies(cluster),
        _endpoints(cluster),
        *(
            made
            for pool in cluster.spec.pools
            for made in _pool(cluster, pool, images, known.get(pool.name) or _seeded(pool))
        ),
        *_router(cluster, images),
    ]


def _seeded(pool: Pool) -> Counts:
    return Counts(pool.seed, pool.seed, pool.replicas)


def _endpoints(cluster: SplitwiseCluster) -> Object:
    """Tells routers how to find workers; a runner without Kubernetes puts a list in its place."""
    meta = names.metadata(cluster, names.object_name(cluster, "endpoints"))
    marks = {**meta.get("annotations", {}), names.ENDPOINTS_ANNOTATION: "workers"}
    where = {
        "namespace": cluster.metadata.namespace,
        "selector": f"{CLUSTER_LABEL}={cluster.metadata.name}",
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta | {"annotations": marks},
        "data": {names.ENDPOINTS_FILE: json.dumps({"endpointSlices": where})},
    }


def _pool(cluster: SplitwiseCluster, pool: Pool, images: Images, counts: Counts) -> list[Object]:
    name = names.object_name(cluster, pool.name)
    own = names.labels(cluster, pool.name, pool.role)
    revision = names.revision(cluster, images)
    ports = [
        {"name": "grpc", "port": names.WORKER_PORT, "targetPort": "grpc"},
        {"name": "kv", "port": names.SIDECAR_PORT, "targetPort": "kv"},
    ]
    template = with_template(
        {
            "metadata": {"labels": own | {REVISION_LABEL: revision}},
            "spec": pods.worker_pod(cluster, pool, images),
        },
        pool.pod_template,
    )
    return [
        _scaled(cluster, pool, counts),
        _service(cluster, name, pool.name, own, ports, headless=True),
        disruption_budget(cluster, pool.name, pool.role),
        _deployment(
            cluster,
            names.worker_set(cluster, pool.name, revision),
            own | {REVISION_LABEL: revision},
            counts.workers,
            template,
            names.selector(cluster, pool.name) | {REVISION_LABEL: revision},
        ),
    ]


def _scaled(cluster: SplitwiseCluster, pool: Pool, counts: Counts) -> Object:
    meta = names.metadata(
        cluster,
        names.object_name(cluster, pool.name),
        names.labels(cluster, pool.name, pool.role),
    )
    asked = "" if counts.asked is None else str(counts.asked)
    return {
        "apiVersion": API_VERSION,
        "kind": "SplitwisePool",
        "metadata": meta
        | {"annotations": {**meta.get("annotations", {}), names.ASKED_REPLICAS: asked}},
        "spec": {
            "cluster": cluster.metadata.name,
            "pool": pool.name,
            "role": pool.role,
            "replicas": counts.desired,
            **({"sleeps": True} if cluster.spec.sleeps else {}),
        },
    }


def _router(cluster: SplitwiseCluster, images: Images) -> list[Object]:
    name = names.object_name(cluster, ROUTER)
    own = names.labels(cluster, ROUTER, ROUTER)
    ports = [{"name": "http", "port": cluster.spec.router.port, "targetPort": "http"}]
    revision = {REVISION_LABEL: names.revision(cluster, images)}
    template = with_template(
        {"metadata": {"labels": own | revision}, "spec": pods.router_pod(cluster, images)},
        cluster.spec.router.pod_template,
    )
    selector = names.selector(cluster, ROUTER)
    return [
        _service(cluster, name, ROUTER, own, ports, headless=False),
        disruption_budget(cluster, ROUTER, ROUTER),
        _deployment(cluster, name, own, cluster.spec.router.replicas, template, selector),
    ]


def _service(
    cluster: SplitwiseCluster,
    name: str,
    pool: str,
    own: dict[str, str],
    ports: list[Object],
    headless: bool,
) -> Object:
    spec: Object = {"selector": names.selector(cluster, pool), "ports": ports}
    if headless:
        spec["clusterIP"] = "None"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(cluster, name, own),
        "spec": spec,
    }


def _deployment(
    cluster: SplitwiseCluster,
    name: str,
    own: dict[str, str],
    replicas: int,
    template: Object,
    selector: dict[str, str],
) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": names.metadata(cluster, name, own),
        "spec": {
            "replicas": replicas,
            "minReadySeconds": SETTLE_SECONDS,
            "selector": {"matchLabels": selector},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": template,
        },
    }
