"""Pools are scaled by their load: only what is short grows, nobody is cut off when it shrinks, what
is at zero wakes for who waits, and Kubernetes' own autoscaler may do it in the operator's place.

One cluster for all tests here, in their order; its windows are short.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from splitwise_operator.manifest import cluster_of
from tests.support.cluster import Metrics, eventually
from tests.support.loads import PROMPT_TOKENS, Streams, flooded, streams
from tests.support.machine import Machine
from tests.support.metrics_adapter import served
from tests.support.operated import SAMPLES, Operated, operated_in, quickstart
from tests.support.replay import decided_again, decided_then

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.e2e,
    pytest.mark.usefixtures("inside"),
]

NAME = "test-scaling"
WITHIN_S = 120.0
QUEUE_TOKENS = "splitwise_worker_queue_tokens"
CALM_SHARE = 0.4
"""Of what the cluster computes of few prompts at a time, which is half of what it does of many: one
worker is enough, and for six times as much it is not."""
STEP_S = 8.0
"""So long the step goes on once it was seen: a shorter one would be taken for a peak."""

PATIENCE_S = 240.0
"""A pool that has grown waits ten windows of 10 s before it shrinks, unless its load has halved."""

Looks = dict[float, dict[str, Any]]


def scaled(model: Path, **law: Any) -> dict[str, Any]:
    """Two pools of two workers at most; windows are short, and token workers have few places."""
    windows = {"upWindowSeconds": 2, "downWindowSeconds": 10, "idleSeconds": 10}
    # What a step of the load piles up is worked off, and nobody turned away.
    document = quickstart(model, router={"maxQueueSeconds": 60, "maxQueuedRequests": 5000})
    for pool in document["spec"]["pools"]:
        del pool["replicas"]
        pool["autoscaling"] = {"maxReplicas": 2, "behavior": windows, **law}
    document["spec"]["pools"][1]["maxSequences"] = 8
    return document


@pytest.fixture(scope="module")
def cluster(operator: object, running_machine: Machine, tiny_model: Path) -> Iterator[Operated]:
    """Scaled by its load, to nothing when nobody asks."""
    document = scaled(tiny_model, by="Load", minReplicas=0, load={"kvRatio": 0.5})
    with operated_in(running_machine, NAME, document) as made:
        yield made


@pytest.fixture(scope="module")
def looks() -> Looks:
    """All looks at the cluster so far, by their time: the operator keeps those of five minutes."""
    return {}


@pytest.fixture
def inside(running_machine: Machine) -> Iterator[None]:
    """This test is inside the cluster's network."""
    with running_machine.network.entered():
        yield


async def soon(holds: Callable[[], bool], cluster: Operated, within_s: float = WITHIN_S) -> None:
    """As `eventually`, while the load goes on."""
    await asyncio.to_thread(eventually, holds, within_s, cluster.report)


def pool(cluster: Operated, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = cluster.get()["status"]["pools"]
    return next(one for one in found if one["name"] == name)


def sizes(cluster: Operated) -> dict[str, int]:
    """Worker pods that there are, by pool, those that end counted in."""
    return {name: len(cluster.pods(name)) for name in ("prompt", "token")}


def page_of(pod: dict[str, Any]) -> Metrics:
    """A worker's metrics; empty ones while it is not there."""
    try:
        address = pod["status"]["podIP"]
        return Metrics(httpx.get(f"http://{address}:9101/metrics", timeout=10).text)
    except (httpx.HTTPError, KeyError):
        return Metrics("")


def of_prompt_workers(cluster: Operated, metric: str, **labels: str) -> float:
    """The sum over the prompt pool's workers."""
    return sum(page_of(pod).value(metric, **labels) for pod in cluster.pods("prompt"))


async def prompts_are_held_up(cluster: Operated, load: Streams) -> None:
    """For three looks, prompts are finished, and the token worker's sidecar takes none."""
    held_up = cluster.processes("splitwise-sidecar", "token")
    assert held_up
    asked = [asyncio.create_task(load.ask(600, 2)) for _ in range(2)]
    for process in held_up:
        process.send_signal(signal.SIGSTOP)

    def are_finished() -> bool:
        return of_prompt_workers(cluster, "splitwise_kv_blocks", state="sending") > 0

    try:
        await soon(are_finished, cluster)
        await asyncio.sleep(3 * 2)
    finally:
        for process in held_up:
            process.send_signal(signal.SIGCONT)
    await asyncio.wait(asked)


async def test_long_generations_grow_the_token_pool_alone_and_it_shrinks_when_they_have_ended(
    cluster: Operated, looks: Looks
) -> None:
    def remember() -> bool:
        looks.update({look["at_s"]: look for look in cluster.looks()})
        return True

    async with streams(cluster.url) as load:
        load.set(1)
        await prompts_are_held_up(cluster, load)
        assert cluster.decisions() == [], "finished prompts that wait grow nothing"
        load.set(6)
        stepped_s = time.monotonic()
        await soon(lambda: remember() and bool(cluster.decisions()), cluster)
        print(f"first decision {time.monotonic() - stepped_s:.1f} s after the step")
        await soon(lambda: remember() and pool(cluster, "token")["ready"] == 2, cluster)
        load.set(1)
        await soon(lambda: remember() and sizes(cluster) == {"prompt": 1, "token": 1}, cluster)
    made = [(one["pool"], one["from"], one["to"], one["reason"]) for one in cluster.decisions()]
    assert made[:2] == [("token", 1, 2, "KvHigh"), ("token", 2, 1, "LoadLow")]


async def prompts_per_s(load: Streams) -> float:
    """What the cluster computes of prompts like PROMPT_TOKENS, from few at a time."""
    for _ in range(2):  # first ones pay for what later ones find ready
        began_s = time.monotonic()
        for _ in range(4):
            await asyncio.gather(*(load.ask(PROMPT_TOKENS, 1) for _ in range(10)))
    return 40 / (time.monotonic() - began_s)


async def test_long_prompts_grow_the_prompt_pool_alone(
    cluster: Operated, looks: Looks, record_property: Any
) -> None:
    cluster.answers(1)  # awake
    before = len(cluster.decisions())
    began, stepped_s = datetime.now(UTC), time.monotonic()

    def grown() -> list[dict[str, Any]]:
        looks.update({look["at_s"]: look for look in cluster.looks()})
        return [one for one in cluster.decisions()[before:] if one["to"] > max(one["from"], 1)]

    async with flooded(cluster.url):
        await soon(lambda: bool(grown()), cluster)
        took_s = time.monotonic() - stepped_s
    first = grown()[0]
    record_property("first_decision_s", took_s)
    print(f"first decision {took_s:.1f} s after the step, {first}")
    assert (first["pool"], first["from"], first["to"]) == ("prompt", 1, 2), cluster.report()
    assert first["reason"] in ("BacklogHigh", "QueueFull")
    assert first["inputs"]
    assert datetime.fromisoformat(first["time"]) >= began.replace(microsecond=0)
    assert {one["pool"] for one in grown()} == {"prompt"}
    assert pool(cluster, "prompt")["scaledBy"] == "Autoscaler"
    events = cluster.kubectl("get", "events", "-o", "jsonpath={.items[*].message}")
    assert "Pool prompt: from 1 to 2 workers" in events


@pytest.mark.skipif(
    os.environ.get("HYPOTHESIS_PROFILE") != "nightly",
    reason="six times the load is that only where nobody else takes the machine",
)
async def test_prompts_that_step_to_six_times_and_back_cost_nobody_an_answer(
    cluster: Operated, looks: Looks, record_property: Any
) -> None:
    cluster.answers(1)  # awake
    before = len(cluster.decisions())

    def decided() -> list[dict[str, Any]]:
        looks.update({look["at_s"]: look for look in cluster.looks()})
        return [one for one in cluster.decisions()[before:] if one["to"] != max(one["from"], 1)]

    def is_one_again() -> bool:
        return len(decided()) > 1 and sizes(cluster)["prompt"] == 1

    async with streams(cluster.url) as load:
        calm = CALM_SHARE * await prompts_per_s(load)
        load.pace(calm, PROMPT_TOKENS, 1)
        await asyncio.sleep(3 * 2)
        assert decided() == [], "a calm load grows nothing"
        load.pace(6 * calm, PROMPT_TOKENS, 1)
        began, stepped_s = datetime.now(UTC), time.monotonic()
        await soon(lambda: bool(decided()), cluster)
        took_s = time.monotonic() - stepped_s
        await asyncio.sleep(STEP_S)
        load.pace(calm, PROMPT_TOKENS, 1)
        await soon(lambda: pool(cluster, "prompt")["ready"] == 2, cluster)
        await soon(is_one_again, cluster, PATIENCE_S)
        print(f"{load.ended} requests, {len(load.failed)} failed")
    first, second = decided()
    record_property("first_decision_s", took_s)
    print(f"first decision {took_s:.1f} s after the step, {first}")
    assert (first["pool"], first["from"], first["to"]) == ("prompt", 1, 2), cluster.report()
    assert datetime.fromisoformat(first["time"]) >= began.replace(microsecond=0)
    assert (second["pool"], second["to"], second["reason"]) == ("prompt", 1, "LoadLow")


def test_every_decision_on_what_was_recorded_is_made_again(cluster: Operated, looks: Looks) -> None:
    told = [looks[at_s] for at_s in sorted(looks)]
    made = decided_then(told)
    assert len({pools["prompt"] for pools in made if "prompt" in pools}) > 2
    assert decided_again(cluster_of(cluster.get()), told) == made


async def test_all_pools_sleep_together_and_wake_for_who_waits_at_the_router(
    cluster: Operated,
) -> None:
    await soon(lambda: sizes(cluster) == {"prompt": 0, "token": 0}, cluster)
    await soon(lambda: cluster.condition("Ready").get("reason") == "Asleep", cluster)
    assert cluster.condition("Ready")["status"] == "True"
    async with streams(cluster.url) as load:
        await asyncio.gather(*(load.ask(20, 8) for _ in range(5)))
    reasons = {(one["reason"], one["to"]) for one in cluster.decisions()}
    assert {("Idle", 0), ("RequestsWaiting", 1)} <= reasons
    cluster.answers(1)


async def test_a_horizontal_pod_autoscaler_grows_and_shrinks_the_pool_of_its_metric(
    cluster: Operated, tiny_model: Path, tmp_path: Path
) -> None:
    cluster.apply(scaled(tiny_model, by="External", minReplicas=1))
    cluster.wait_until_complete()
    before = cluster.decisions()
    hpa = yaml.safe_load((SAMPLES / "external" / "hpa.yaml").read_text())
    hpa["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 0

    def waiting(namespace: str, metric: str) -> float:
        return of_prompt_workers(cluster, metric) if namespace == NAME else 0.0

    with served(cluster.machine, NAME, tmp_path, waiting) as asked:
        cluster.machine.apply(hpa, namespace=NAME)
        async with flooded(cluster.url):
            await soon(lambda: sizes(cluster) == {"prompt": 2, "token": 1}, cluster)
        await soon(lambda: sizes(cluster) == {"prompt": 1, "token": 1}, cluster)
        cluster.kubectl("delete", "hpa", hpa["metadata"]["name"])
    assert any(path.endswith(QUEUE_TOKENS) for path in asked)
    assert pool(cluster, "prompt")["scaledBy"] == "External"
    assert cluster.decisions() == before, "the operator decides nothing"


async def test_first_tokens_that_would_come_late_grow_the_prompt_pool(
    cluster: Operated, tiny_model: Path
) -> None:
    """Of the backlog alone, 600 s of it might be there."""
    targets = {"ttftSeconds": 3.0, "tbtSeconds": 10.0}
    cluster.apply(scaled(tiny_model, by="SLO", slo=targets, load={"backlogSeconds": 600}))
    cluster.wait_until_complete()
    before = len(cluster.decisions())

    def late() -> list[dict[str, Any]]:
        return [one for one in cluster.decisions()[before:] if one["reason"] == "TtftMissed"]

    async with streams(cluster.url) as load:
        found: list[dict[str, Any]] = []
        asked: set[asyncio.Task[None]] = set()
        until_s = time.monotonic() + WITHIN_S
        while not found and time.monotonic() < until_s:
            asked |= {asyncio.create_task(load.ask(900, 1)) for _ in range(40 - len(asked))}
            _, asked = await asyncio.wait(asked, timeout=0.5)
            found = await asyncio.to_thread(late)
        await asyncio.gather(*asked)
    assert [(one["pool"], one["from"], one["to"]) for one in found] == [("prompt", 1, 2)]
