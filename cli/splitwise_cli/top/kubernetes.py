"""A cluster on Kubernetes: its SplitwiseCluster, and its routers through the API server's proxy."""

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from splitwise_cli.top.readings import Reading, RouterReading, Wanted
from splitwise_cli.top.sources import TIMEOUTS_S, Source, Unseen, reading_of
from splitwise_core.errors import UserError
from splitwise_core.fields import GROUP
from splitwise_core.labels import CLUSTER_LABEL, ROLE_LABEL, ROUTER
from splitwise_core.spec import API_VERSION

MOST_ROUTERS: Final = 10
"""Of more routers the first are asked: each answer costs the API server a proxied request."""

Answer = TypeVar("Answer")


def on_kubernetes(name: str, namespace: str | None) -> Source:
    """The SplitwiseCluster of that name, as KUBECONFIG or the account of this pod may see it.

    Asks nothing yet. Raises UserError when no API server is known.
    """
    client, config, urllib3 = _libraries()
    configuration = client.Configuration()
    space = namespace or _namespace(config)
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            file = os.environ.get("KUBECONFIG")
            config.load_kube_config(file, client_configuration=configuration)
    except (config.ConfigException, OSError, ValueError) as error:
        raise UserError(
            "environment",
            where="--cluster",
            wrong=f"no API server is known: {error}",
            fix="set KUBECONFIG to the file that kubectl uses, or leave --cluster out to see the "
            "cluster on this machine",
        ) from error
    configuration.retries = False
    api = client.ApiClient(configuration)
    custom, core = client.CustomObjectsApi(api), client.CoreV1Api(api)
    failures = (client.ApiException, urllib3.exceptions.HTTPError, OSError)

    def ask(what: str, call: Callable[..., Any], *given: Any, **named: Any) -> bytes:
        try:
            answer = call(*given, **named, _preload_content=False, _request_timeout=TIMEOUTS_S)
            return bytes(answer.data)
        except failures as error:
            raise Unseen(f"{what}: {_why(error)}") from error

    def read() -> Reading:
        version = API_VERSION.rpartition("/")[2]
        where = (GROUP, version, space, "splitwiseclusters", name)
        own = f"SplitwiseCluster {space}/{name}"
        cluster = _object(ask(own, custom.get_namespaced_custom_object, *where))
        selector = f"{CLUSTER_LABEL}={name},{ROLE_LABEL}={ROUTER}"
        pods = _object(
            ask("the routers' pods", core.list_namespaced_pod, space, label_selector=selector)
        )
        port = cluster.get("spec", {}).get("router", {}).get("port", 8000)
        routers: dict[str, RouterReading] = {}
        missing: dict[str, str] = {}
        for pod in _running(pods)[:MOST_ROUTERS]:
            proxy = core.connect_get_namespaced_pod_proxy_with_path
            try:
                routers[pod] = reading_of(ask("proxy", proxy, f"{pod}:{port}", space, "load"))
            except Unseen as why:
                missing[pod] = str(why)
        if not routers:
            told = "; ".join(f"{pod}: {why}" for pod, why in missing.items())
            raise Unseen(told or f"{own} has no router that runs")
        return Reading(f"{space}/{name}", routers, wanted_of(cluster), missing)

    return read


def wanted_of(cluster: Mapping[str, Any]) -> dict[str, Wanted]:
    """What a SplitwiseCluster's status says that there should be, and who has decided so last."""
    status = cluster.get("status", {})
    decisions = {entry["pool"]: entry for entry in status.get("scaling", ())}  # the newest is last
    return {
        pool["name"]: Wanted(
            int(pool.get("desired", 0)), _decision(pool, decisions.get(pool["name"]))
        )
        for pool in status.get("pools", ())
    }


def _decision(pool: Mapping[str, Any], last: Mapping[str, Any] | None) -> str:
    if last is None:
        by = pool.get("scaledBy", "")
        return f"replicas set by {by}" if by and by != "Spec" else ""
    inputs = ", ".join(f"{name} {value:.3g}" for name, value in last.get("inputs", {}).items())
    told = f"scaled {last['from']} -> {last['to']} at {last['time']}: {last['reason']}"
    return f"{told} ({inputs})" if inputs else told


def _running(pods: Mapping[str, Any]) -> list[str]:
    return sorted(
        pod["metadata"]["name"]
        for pod in pods["items"]
        if pod.get("status", {}).get("phase") == "Running"
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        made: dict[str, Any] = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unseen(f"the API server talks nonsense: {error}") from error
    return made


def _why(error: Exception) -> str:
    """What the API server says, or that it says nothing."""
    status = getattr(error, "status", None)
    if not status:
        return f"the API server does not answer: {error}"
    reasons = {404: "not found", 403: "not allowed", 401: "not allowed: who asks is not known"}
    return reasons.get(status, f"the API server answers {status}")


def _namespace(config: Any) -> str:
    """That of kubectl's current context; `default` where it names none."""
    try:
        _, active = config.list_kube_config_contexts(os.environ.get("KUBECONFIG"))
    except (config.ConfigException, OSError, TypeError):
        return "default"
    return str(active["context"].get("namespace", "default"))


def _libraries() -> tuple[Any, Any, Any]:
    try:
        import urllib3
        from kubernetes import client, config
    except ImportError as error:
        raise UserError(
            "environment",
            where="--cluster",
            wrong=f"the Kubernetes client is not installed: {error}",
            fix="pip install 'splitwise[cli]'",
        ) from error
    return client, config, urllib3
