"""Kubernetes' own autoscaler scales a pool by what our workers say, in the operator's place."""

import asyncio
from pathlib import Path

import httpx
import pytest
import yaml

from tests.kubernetes.e2e.test_scaling import flood
from tests.support.cluster import Metrics, eventually
from tests.support.metrics_adapter import served
from tests.support.operated import SAMPLES, Operated, quickstart

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

METRIC = "splitwise_worker_queue_tokens"
WITHIN_S = 120.0


def queue_tokens(cluster: Operated) -> float:
    """Prompt tokens that wait at the prompt workers, as their metrics say."""
    total = 0.0
    for pod in cluster.pods("prompt"):
        try:
            page = httpx.get(f"http://{pod['status']['podIP']}:9101/metrics", timeout=5).text
        except (httpx.HTTPError, KeyError):  # it is not there yet, or no more
            continue
        total += Metrics(page).value(METRIC)
    return total


async def test_a_horizontal_pod_autoscaler_grows_and_shrinks_the_pool_of_its_metric(
    operated: Operated, tiny_model: Path, tmp_path: Path
) -> None:
    document = quickstart(tiny_model)
    prompt = document["spec"]["pools"][0]
    del prompt["replicas"]
    prompt["autoscaling"] = {"by": "External", "minReplicas": 1, "maxReplicas": 2}
    hpa = yaml.safe_load((SAMPLES / "external" / "hpa.yaml").read_text())
    hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 0
    operated.apply(document)
    operated.wait_until_complete()

    def tell() -> str:
        return operated.kubectl("get", "hpa", "-o", "yaml") + operated.report()

    async def until(workers: int) -> None:
        def holds() -> bool:
            return len(operated.pods("prompt")) == workers

        await asyncio.to_thread(eventually, holds, WITHIN_S, tell)

    with served(
        operated.machine, operated.namespace, tmp_path, lambda *_: queue_tokens(operated)
    ) as asked:
        operated.machine.apply(hpa, namespace=operated.namespace)
        load = asyncio.create_task(flood(operated.url))
        try:
            await until(2)
        finally:
            load.cancel()
            await asyncio.wait([load])
        assert len(operated.pods("token")) == 2, "as the spec says"
        await until(1)
        pools = {own["name"]: own for own in operated.get()["status"]["pools"]}
        assert pools["prompt"]["scaledBy"] == "External"
    assert any(path.endswith(METRIC) for path in asked)
    assert operated.decisions() == [], "the operator decides nothing"
