"""From a SplitwiseCluster to every object of it. Pure: no kopf, no client, no clock."""

from splitwise_core.spec import API_VERSION, Pool, SplitwiseCluster
from splitwise_operator import names, pods
from splitwise_operator.names import Object


def render(cluster: SplitwiseCluster) -> list[Object]:
    """Every object the cluster should have, in apply order. Same spec, same bytes."""
    shared = [_service_account(cluster), _endpoints(cluster)]
    pools = [obj for pool in cluster.spec.pools for obj in _pool(cluster, pool)]
    return [*shared, *pools, _router_service(cluster), _router(cluster)]


def _service_account(cluster: SplitwiseCluster) -> Object:
    own = {names.CLUSTER_LABEL: cluster.metadata.name}
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.metadata(cluster, cluster.metadata.name, own),
        "automountServiceAccountToken": False,
    }


def _endpoints(cluster: SplitwiseCluster) -> Object:
    """The workers' addresses, for routers; filled by whoever sees the pods come and go."""
    name = names.object_name(cluster, "endpoints")
    meta = names.metadata(cluster, name, {names.CLUSTER_LABEL: cluster.metadata.name})
    marks = {**meta.get("annotations", {}), names.ENDPOINTS_ANNOTATION: "workers"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": meta | {"annotations": marks},
        "data": {names.ENDPOINTS_FILE: '{"workers": []}'},
    }


def _pool(cluster: SplitwiseCluster, pool: Pool) -> list[Object]:
    name = names.object_name(cluster, pool.name)
    own = names.labels(cluster, pool.name, pool.role)
    meta = names.metadata(cluster, name, own)
    ports = [
        {"name": "grpc", "port": names.WORKER_PORT, "targetPort": "grpc"},
        {"name": "kv", "port": names.SIDECAR_PORT, "targetPort": "kv"},
    ]
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "SplitwisePool",
            "metadata": meta,
            "spec": {
                "cluster": cluster.metadata.name,
                "pool": pool.name,
                "role": pool.role,
                "replicas": pool.replicas,
            },
        },
        _service(cluster, name, pool.name, own, ports, headless=True),
        _deployment(cluster, name, pool.name, own, pool.replicas, pods.worker_pod(cluster, pool)),
    ]


def _router_service(cluster: SplitwiseCluster) -> Object:
    name = names.object_name(cluster, names.ROUTER)
    own = names.labels(cluster, names.ROUTER, names.ROUTER)
    ports = [{"name": "http", "port": cluster.spec.router.port, "targetPort": "http"}]
    return _service(cluster, name, names.ROUTER, own, ports, headless=False)


def _router(cluster: SplitwiseCluster) -> Object:
    return _deployment(
        cluster,
        names.object_name(cluster, names.ROUTER),
        names.ROUTER,
        names.labels(cluster, names.ROUTER, names.ROUTER),
        cluster.spec.router.replicas,
        pods.router_pod(cluster),
    )


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
    pool: str,
    own: dict[str, str],
    replicas: int,
    pod: Object,
) -> Object:
    pod_labels = {**own, names.REVISION_LABEL: names.revision(cluster)}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": names.metadata(cluster, name, own),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": names.selector(cluster, pool)},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": pod_labels}, "spec": pod},
        },
    }
