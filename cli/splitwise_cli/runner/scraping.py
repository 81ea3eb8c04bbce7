"""What a Prometheus on this machine is to scrape, with the labels that it gives in Kubernetes."""

from collections.abc import Iterator, Sequence

from splitwise_cli.runner.plan import Object, PodPlan
from splitwise_core.spec import ObjectMeta


def metrics_of(pod: PodPlan) -> Iterator[tuple[str, str]]:
    """Container and `address:port` of every /metrics of a pod."""
    for container in (*pod.spec.get("initContainers", []), *pod.spec["containers"]):
        for port in container.get("ports", []):
            if port["name"].endswith(("status", "http")):
                yield container["name"], f"{pod.address}:{port['containerPort']}"


def targets(cluster: ObjectMeta, pods: Sequence[PodPlan]) -> list[Object]:
    """As a file of Prometheus' `file_sd_configs` has them."""
    own = {"namespace": cluster.namespace, "cluster": cluster.name}
    return [
        {"targets": [target], "labels": own | {"pod": pod.name, "container": container}}
        for pod in pods
        for container, target in metrics_of(pod)
    ]
