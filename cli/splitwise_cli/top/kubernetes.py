"""A cluster on Kubernetes: its SplitwiseCluster, and its routers through the API server's proxy."""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from splitwise_cli.top.readings import Reading, RouterReading, Wanted
from splitwise_cli.top.sources import TIMEOUTS_S, Source, Unseen, each, reading_of, some
from splitwise_core.errors import UserError
from splitwise_core.fields import GROUP
from splitwise_core.labels import CLUSTER_LABEL, ROLE_LABEL, ROUTER
from splitwise_core.spec import API_VERSION

MOST_ROUTERS: Final = 10
"""Of more routers the first are asked: each answer costs the API server a proxied request."""


def on_kubernetes(name: str, namespace: str | None) -> Source:
    """The SplitwiseCluster of that name, as KUBECONFIG or the account of this pod may see it.

    Asks nothing yet. Raises UserError when no API server is known.
    """
    api = _Api(namespace)

    def read() -> Reading:
        cluster = api.cluster(name)
        port = cluster.get("spec", {}).get("router", {}).get("port", 8000)
        pods = api.routers(name)[:MOST_ROUTERS]
        routers, missing = each({pod: partial(api.load, pod, port) for pod in pods})
        where = f"{api.namespace}/{name}"
        return some(Reading(where, routers, wanted_of(cluster), missing))

    return read


class _Api:
    """The API server, as far as this asks it. Its methods raise Unseen."""

    def __init__(self, namespace: str | None) -> None:
        """Raises UserError when there is no way to know the server."""
        client, config, urllib3 = _libraries()
        api = client.ApiClient(_configuration(client, config))
        self.namespace = namespace or _namespace(config)
        self._custom, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._failures = (client.ApiException, urllib3.exceptions.HTTPError, OSError)

    def cluster(self, name: str) -> dict[str, Any]:
        """The SplitwiseCluster."""
        where = (GROUP, API_VERSION.rpartition("/")[2], self.namespace, "splitwiseclusters", name)
        own = f"SplitwiseCluster {self.namespace}/{name}"
        return _object(self._ask(own, self._custom.get_namespaced_custom_object, *where))

    def routers(self, name: str) -> list[str]:
        """The pods of its routers that run."""
        selector = f"{CLUSTER_LABEL}={name},{ROLE_LABEL}={ROUTER}"
        call = self._core.list_namespaced_pod
        found = self._ask("the routers' pods", call, self.namespace, label_selector=selector)
        return _running(_object(found))

    def load(self, pod: str, port: int) -> RouterReading:
        """What a router says."""
        call = self._core.connect_get_namespaced_pod_proxy_with_path
        return reading_of(self._ask("its /load", call, f"{pod}:{port}", self.namespace, "load"))

    def _ask(self, what: str, call: Callable[..., Any], *given: Any, **named: Any) -> bytes:
        try:
            answer = call(*given, **named, _preload_content=False, _request_timeout=TIMEOUTS_S)
            return bytes(answer.data)
        except self._failures as error:
            raise Unseen(f"{what}: {_why(error)}") from error


def _configuration(client: Any, config: Any) -> Any:
    """Where the API server is, and who asks. Raises UserError when nobody says."""
    made, file = client.Configuration(), os.environ.get("KUBECONFIG")
    made.retries = False
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not file:
            config.load_incluster_config(client_configuration=made)
        else:
            config.load_kube_config(file, client_configuration=made)
    except (config.ConfigException, OSError, ValueError) as error:
        raise UserError(
            "environment",
            where="--cluster",
            wrong=f"no API server is known: {error}",
            fix="set KUBECONFIG to the file that kubectl uses, or leave --cluster out to see the "
            "cluster on this machine",
        ) from error
    return made


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
