"""What workers, sidecars and routers are started with: the only place that knows."""

from typing import Any, Final

from splitwise_core.labels import CLUSTER_LABEL, REVISION_LABEL, ROUTER
from splitwise_core.quantity import quantity
from splitwise_core.spec import SplitwiseCluster
from splitwise_core.spec_pool import Pool
from splitwise_operator import kv_secret, metric_flags, names, watching
from splitwise_operator.images import Images
from splitwise_operator.names import Object

STOP_SECONDS: Final = 10
"""What is left of a pod's termination grace when its requests have had their time."""
_SOCKET: Final = f"{names.RUN_DIR}/kv.sock"

_CONTAINER_SECURITY: Final = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
_POD_SECURITY: Final = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def worker_pod(cluster: SplitwiseCluster, pool: Pool, images: Images) -> Object:
    """The pod spec of a worker: its sidecar starts first and stops last."""
    spec = {
        "automountServiceAccountToken": False,
        "serviceAccountName": cluster.metadata.name,
        "securityContext": _POD_SECURITY,
        "terminationGracePeriodSeconds": cluster.spec.rollout.drain_seconds + STOP_SECONDS,
        "initContainers": [_sidecar(cluster, pool, images)],
        "containers": [_worker(cluster, pool, images)],
        "volumes": [
            _model_volume(cluster),
            {"name": "run", "emptyDir": {"medium": "Memory"}},
            kv_secret.sidecar_volume(cluster),
        ],
    }
    if pool.node_selector:
        spec["nodeSelector"] = dict(pool.node_selector)
    if pool.tolerations:
        spec["tolerations"] = [
            toleration.model_dump(by_alias=True, exclude_none=True)
            for toleration in pool.tolerations
        ]
    if key := cluster.spec.transfer.topology_key:
        spec["affinity"] = _near_each_other(cluster, key)
    return spec


def router_pod(cluster: SplitwiseCluster, images: Images) -> Object:
    """The pod spec of a router. Its token is for the watch on where workers are."""
    config = {"name": names.object_name(cluster, "endpoints")}
    return {
        "automountServiceAccountToken": True,
        "serviceAccountName": names.object_name(cluster, ROUTER),
        "securityContext": _POD_SECURITY,
        "terminationGracePeriodSeconds": cluster.spec.rollout.drain_seconds + STOP_SECONDS,
        "containers": [_router(cluster, images)],
        "volumes": [
            _model_volume(cluster),
            {"name": "endpoints", "configMap": config},
            kv_secret.router_volume(cluster),
        ],
    }


def _near_each_other(cluster: SplitwiseCluster, key: str) -> Object:
    """A wish, no condition: KV moves faster within a zone or rack, and a full one is no outage."""
    term = {
        "topologyKey": key,
        "labelSelector": {"matchLabels": {CLUSTER_LABEL: cluster.metadata.name}},
    }
    wish = {"weight": 100, "podAffinityTerm": term}
    return {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [wish]}}


def _worker(cluster: SplitwiseCluster, pool: Pool, images: Images) -> Object:
    return {
        "name": "worker",
        "image": images.worker,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "command": ["splitwise-worker"],
        "args": _worker_arguments(cluster, pool),
        "env": [
            *_identity(),
            _field("REVISION", f"metadata.labels['{REVISION_LABEL}']"),
            {"name": "SPLITWISE_CPU_MILLIS", "valueFrom": {"resourceFieldRef": _CPU_MILLIS}},
            {"name": "OMP_WAIT_POLICY", "value": "PASSIVE"},
            *(_WRITABLE if pool.gpu else ()),
            *watching.environment(cluster.spec.monitoring),
        ],
        "ports": [
            {"name": "grpc", "containerPort": names.WORKER_PORT},
            {"name": "status", "containerPort": names.WORKER_STATUS_PORT},
        ],
        "resources": _resources(pool),
        "volumeMounts": [_model_mount(cluster), _RUN_MOUNT],
        "securityContext": _CONTAINER_SECURITY,
        **_probes("/healthz", "/readyz", "status", starts_within_s=600),
    }


def _worker_arguments(cluster: SplitwiseCluster, pool: Pool) -> list[str]:
    spec = cluster.spec
    return _flags(
        {
            "worker-id": "$(POD_NAME)",
            "pool": pool.name,
            "role": pool.role,
            "revision": "$(REVISION)",
            "model": names.MODEL_DIR,
            "model-name": spec.model.name,
            "dtype": spec.model.dtype,
            "max-length": spec.model.max_length,
            "kv-memory": int(quantity(pool.kv_memory)),
            "max-sequences": pool.max_sequences,
            "max-tbt-seconds": pool.max_tbt_seconds,
            "prompt-batch-tokens": spec.scheduling.prompt_batch_tokens,
            "chunk-tokens": spec.scheduling.chunk_tokens,
            "prefix-caching": _switch(spec.scheduling.prefix_caching),
            "repurpose-seconds": spec.scheduling.repurpose_seconds,
            "lease-seconds": spec.transfer.lease_seconds,
            "listen": f"$(POD_IP):{names.WORKER_PORT}",
            "status": f"$(POD_IP):{names.WORKER_STATUS_PORT}",
            "sidecar-socket": _SOCKET,
            "sidecar-address": f"$(POD_IP):{names.SIDECAR_PORT}",
            "drain-seconds": spec.rollout.drain_seconds,
            **metric_flags.machine(pool),
        }
    )


def _sidecar(cluster: SplitwiseCluster, pool: Pool, images: Images) -> Object:
    transfer = cluster.spec.transfer
    arguments = {
        "socket": _SOCKET,
        "listen": f"$(POD_IP):{names.SIDECAR_PORT}",
        "listen-tcp": f"$(POD_IP):{names.SIDECAR_TCP_PORT}",
        "listen-grpc": f"$(POD_IP):{names.SIDECAR_GRPC_PORT}",
        "status": f"$(POD_IP):{names.SIDECAR_STATUS_PORT}",
        "role": pool.role,
        "pool": pool.name,
        "drain-seconds": cluster.spec.rollout.drain_seconds,
        "transports": None if transfer.transport == "Auto" else transfer.transport.lower(),
        "capability-key": kv_secret.CAPABILITY_PATH,
        **kv_secret.sidecar_arguments(cluster),
    }
    flags = _flags(arguments) + (["--require-rdma"] if transfer.require_rdma else [])
    security: Object = dict(_CONTAINER_SECURITY)
    devices: Object = {}
    if transfer.rdma is not None:
        security["capabilities"] = {"drop": ["ALL"], "add": ["IPC_LOCK"]}  # to pin memory
        amount = {transfer.rdma.resource: str(transfer.rdma.count)}
        devices = {"resources": {"requests": amount, "limits": amount}}
    probes = _probes("/healthz", "/healthz", "kv-status", starts_within_s=30)
    return {
        "name": "kv",
        "image": images.sidecar,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "restartPolicy": "Always",  # a native sidecar: starts before the worker, stops after it
        "command": ["splitwise-sidecar"],
        "args": flags,
        "env": [*_identity(), *watching.environment(cluster.spec.monitoring)],
        "ports": [
            {"name": "kv", "containerPort": names.SIDECAR_PORT},
            {"name": "kv-tcp", "containerPort": names.SIDECAR_TCP_PORT},
            {"name": "kv-grpc", "containerPort": names.SIDECAR_GRPC_PORT},
            {"name": "kv-status", "containerPort": names.SIDECAR_STATUS_PORT},
        ],
        "volumeMounts": [_RUN_MOUNT, kv_secret.MOUNT],
        "securityContext": security,
        **devices,
        **probes,
    }


def _router(cluster: SplitwiseCluster, images: Images) -> Object:
    router = cluster.spec.router
    arguments = {
        "listen": f"$(POD_IP):{router.port}",
        "endpoints": f"{names.ENDPOINTS_DIR}/{names.ENDPOINTS_FILE}",
        "model": names.MODEL_DIR,
        "model-name": cluster.spec.model.name,
        "max-length": cluster.spec.model.max_length,
        "overflow-tokens": cluster.spec.scheduling.overflow_tokens,
        "borrowing": _switch(cluster.spec.scheduling.borrowing),
        "disaggregation": cluster.spec.scheduling.disaggregation,
        "request-timeout": router.request_timeout_seconds,
        "max-queued": router.max_queued_requests,
        "max-queue-seconds": router.max_queue_seconds,
        "wake-seconds": router.wake_seconds if cluster.spec.sleeps else None,
        "max-body": router.max_body_bytes,
        "retries": router.retries,
        "status-page": _switch(router.status_page),
        "request-log": router.request_log,
        "capability-key": kv_secret.CAPABILITY_PATH,
        "probe-seconds": cluster.spec.transfer.probe_seconds,
        "drain-seconds": cluster.spec.rollout.drain_seconds,
        **metric_flags.objectives(cluster),
    }
    return {
        "name": ROUTER,
        "image": images.router,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "command": ["splitwise-router"],
        "args": _flags(arguments),
        "env": [*_identity(), *watching.environment(cluster.spec.monitoring)],
        "ports": [{"name": "http", "containerPort": router.port}],
        "volumeMounts": [
            _model_mount(cluster),
            {"name": "endpoints", "mountPath": names.ENDPOINTS_DIR, "readOnly": True},
            kv_secret.MOUNT,
        ],
        "securityContext": _CONTAINER_SECURITY,
        **_probes("/healthz", "/readyz", "http", starts_within_s=60),
    }


_CPU_MILLIS: Final = {"resource": "limits.cpu", "divisor": "1m"}
_WRITABLE: Final = (  # the root is read-only; Triton keeps compiled kernels in files
    {"name": "TRITON_CACHE_DIR", "value": f"{names.RUN_DIR}/triton"},
    {"name": "TMPDIR", "value": names.RUN_DIR},
)
_RUN_MOUNT: Final = {"name": "run", "mountPath": names.RUN_DIR}


def _model_volume(cluster: SplitwiseCluster) -> Object:
    model = cluster.spec.model
    if model.claim is not None:
        claim = {"claimName": model.claim, "readOnly": True}
        return {"name": "model", "persistentVolumeClaim": claim}
    return {"name": "model", "hostPath": {"path": model.path, "type": "Directory"}}


def _model_mount(cluster: SplitwiseCluster) -> Object:
    model = cluster.spec.model
    made = {"name": "model", "mountPath": names.MODEL_DIR, "readOnly": True}
    inside = model.path.strip("/")
    return made | {"subPath": inside} if model.claim is not None and inside else made


def _flags(arguments: dict[str, Any]) -> list[str]:
    """`--name=value` for everything that is set."""
    return [f"--{name}={value}" for name, value in arguments.items() if value is not None]


def _switch(is_on: bool) -> str:
    return "on" if is_on else "off"


def _identity() -> list[Object]:
    return [_field("POD_NAME", "metadata.name"), _field("POD_IP", "status.podIP")]


def _field(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _resources(pool: Pool) -> Object:
    amounts: dict[str, str] = {}
    if pool.resources.cpu is not None:
        amounts["cpu"] = pool.resources.cpu
    if pool.resources.memory is not None:
        amounts["memory"] = pool.resources.memory
    if pool.gpu is not None:
        amounts[pool.gpu.resource] = str(pool.gpu.count)
    return {"requests": dict(amounts), "limits": dict(amounts)} if amounts else {}


def _probes(alive: str, ready: str, port: str, starts_within_s: int) -> Object:
    """Liveness is cheap and slow to kill; readiness is quick to notice."""

    def http(path: str) -> Object:
        return {"httpGet": {"path": path, "port": port}, "timeoutSeconds": 3}

    return {
        "startupProbe": http(alive) | {"periodSeconds": 1, "failureThreshold": starts_within_s},
        "readinessProbe": http(ready) | {"periodSeconds": 5, "failureThreshold": 2},
        "livenessProbe": http(alive) | {"periodSeconds": 10, "failureThreshold": 6},
    }
