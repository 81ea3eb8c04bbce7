"""A load that steps from one stream to six and back, and to none: only what is short grows, nobody
is cut off when it shrinks, and what is at zero wakes for who waits."""

import asyncio
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import pytest

from splitwise_operator.manifest import cluster_of
from tests.support.cluster import Metrics, eventually
from tests.support.machine import Machine
from tests.support.operated import Operated, quickstart
from tests.support.replay import decided_again, decided_then

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

NAME = "test-steps"
WITHIN_S = 120.0
LONG = 1000
"""Tokens of one generation."""


def scaled(model: Path, **law: Any) -> dict[str, Any]:
    """Two pools of two workers at most; windows are short, and token workers have few places."""
    windows = {"upWindowSeconds": 2, "downWindowSeconds": 10, "idleSeconds": 10}
    document = quickstart(model)
    for pool in document["spec"]["pools"]:
        del pool["replicas"]
        pool["autoscaling"] = {"maxReplicas": 2, "behavior": windows, **law}
    document["spec"]["pools"][1]["maxSequences"] = 8
    return document


@pytest.fixture(scope="module")
def stepped(operator: object, running_machine: Machine, tiny_model: Path) -> Iterator[Operated]:
    """A cluster of one or two workers in each pool, or of none in both; windows are short."""
    document = scaled(tiny_model, by="Load", minReplicas=0, load={"kvRatio": 0.5})
    with running_machine.network.entered():
        assert running_machine.kubectl("create", "namespace", NAME).returncode == 0
        account = ("get", "serviceaccount/default", f"--namespace={NAME}")
        eventually(lambda: running_machine.kubectl(*account).returncode == 0, 60, lambda: NAME)
        made = Operated(running_machine, NAME)
        made.apply(document)
        made.wait_until_complete()
    yield made
    with running_machine.network.entered():
        running_machine.kubectl("delete", "swc", "--all", f"--namespace={NAME}")
        eventually(lambda: not made.pods(), 120, made.report)
        running_machine.kubectl("delete", "namespace", NAME, "--wait=false")


@pytest.fixture
def inside(running_machine: Machine) -> Iterator[None]:
    """This test is inside the cluster's network."""
    with running_machine.network.entered():
        yield


class Streams:
    """So many generations at a time, one after the other; `failed` has what went wrong."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.ended, self.failed = 0, list[str]()
        self._http, self._url = http, url
        self._draw = random.Random(7)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._wanted = 0

    def set(self, streams: int) -> None:
        """More begin at once; of too many each ends its generation."""
        self._wanted = streams
        for number in range(streams):
            if number not in self._running:
                self._running[number] = asyncio.create_task(self._generate(number))

    async def end(self) -> None:
        """Returns when the last generation has ended."""
        self.set(0)
        while self._running:
            await asyncio.wait(self._running.values())

    async def _generate(self, number: int) -> None:
        while number < self._wanted:
            await self.ask(16, LONG)
        del self._running[number]

    async def ask(self, prompt_tokens: int, output_tokens: int) -> None:
        """One request, to its end."""
        prompt = [self._draw.randrange(3, 40) for _ in range(prompt_tokens)]
        body = {"model": "tiny", "prompt": prompt, "max_tokens": output_tokens, "ignore_eos": True}
        try:
            async with self._http.post(f"{self._url}/completions", json=body) as answer:
                said = await answer.json()
                tokens = said.get("usage", {}).get("completion_tokens")
                if tokens != output_tokens:
                    self.failed.append(f"{answer.status} {said}"[:300])
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failed.append(repr(error))
        self.ended += 1


@asynccontextmanager
async def streams(cluster: Operated) -> AsyncIterator[Streams]:
    """A load; every request of it must have been answered at the end."""
    timeout = aiohttp.ClientTimeout(total=240)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        load = Streams(http, cluster.url)
        try:
            yield load
        finally:
            await load.end()
    assert load.failed == []
    assert load.ended > 0


async def soon(holds: Callable[[], bool], cluster: Operated) -> None:
    """As `eventually`, while the load goes on."""
    await asyncio.to_thread(eventually, holds, WITHIN_S, cluster.report)


def pool(cluster: Operated, name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = cluster.get()["status"]["pools"]
    return next(one for one in found if one["name"] == name)


def sizes(cluster: Operated) -> dict[str, int]:
    """Worker pods that there are, by pool, those that end counted in."""
    found = {"prompt": 0, "token": 0}
    for pod in cluster.pods():
        name = pod["metadata"]["labels"]["splitwise.dev/pool"]
        if name in found:
            found[name] += 1
    return found


def sending(cluster: Operated) -> float:
    """KV blocks of prompts that are computed and not handed over."""
    (pod,) = cluster.pods("prompt")
    page = httpx.get(f"http://{pod['status']['podIP']}:9101/metrics", timeout=10).text
    return Metrics(page).value("splitwise_kv_blocks", state="sending")


def sidecars(cluster: Operated, of: str) -> list[psutil.Process]:
    """The processes of a pool's sidecars."""
    addresses = [pod["status"]["podIP"] for pod in cluster.pods(of)]
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if "splitwise-sidecar" in words and any(f"--listen={one}:" in words for one in addresses):
            found.append(process)
    return found


async def prompts_are_held_up(cluster: Operated, load: Streams) -> None:
    """For three looks, prompts are finished, and the token worker's sidecar takes none."""
    held_up = sidecars(cluster, "token")
    assert held_up
    asked = [asyncio.create_task(load.ask(600, 2)) for _ in range(2)]
    for process in held_up:
        process.send_signal(signal.SIGSTOP)
    try:
        await soon(lambda: sending(cluster) > 0, cluster)
        await asyncio.sleep(3 * 2)
    finally:
        for process in held_up:
            process.send_signal(signal.SIGCONT)
    await asyncio.wait(asked)


@pytest.mark.usefixtures("inside")
async def test_long_generations_grow_the_token_pool_alone_and_it_shrinks_when_they_have_ended(
    stepped: Operated,
) -> None:
    looks: dict[float, dict[str, Any]] = {}

    def remember() -> bool:
        looks.update({look["at_s"]: look for look in stepped.looks()})
        return True

    async with streams(stepped) as load:
        load.set(1)
        await prompts_are_held_up(stepped, load)
        assert stepped.decisions() == [], "finished prompts that wait grow nothing"
        load.set(6)
        stepped_s = time.monotonic()
        await soon(lambda: remember() and bool(stepped.decisions()), stepped)
        print(f"first decision {time.monotonic() - stepped_s:.1f} s after the step")
        await soon(lambda: remember() and pool(stepped, "token")["ready"] == 2, stepped)
        load.set(1)
        await soon(lambda: remember() and sizes(stepped) == {"prompt": 1, "token": 1}, stepped)
    made = [(one["pool"], one["from"], one["to"], one["reason"]) for one in stepped.decisions()]
    print(made)
    assert made[:2] == [("token", 1, 2, "KvHigh"), ("token", 2, 1, "LoadLow")]
    told = [looks[at_s] for at_s in sorted(looks)]
    assert decided_again(cluster_of(stepped.get()), told) == decided_then(told)


@pytest.mark.usefixtures("inside")
async def test_all_pools_sleep_together_and_wake_for_who_waits_at_the_router(
    stepped: Operated,
) -> None:
    await soon(lambda: sizes(stepped) == {"prompt": 0, "token": 0}, stepped)
    await soon(lambda: stepped.condition("Ready").get("reason") == "Asleep", stepped)
    assert stepped.condition("Ready")["status"] == "True"
    async with streams(stepped) as load:
        asked = [asyncio.create_task(load.ask(20, 8)) for _ in range(5)]
        await asyncio.wait(asked)
        assert load.ended == 5
    reasons = {(one["reason"], one["to"]) for one in stepped.decisions()}
    assert {("Idle", 0), ("RequestsWaiting", 1)} <= reasons
    stepped.answers(1)


@pytest.mark.usefixtures("inside")
async def test_first_tokens_that_would_come_late_grow_the_prompt_pool(
    stepped: Operated, tiny_model: Path
) -> None:
    """Of the backlog alone, 600 s of it might be there."""
    targets = {"ttftSeconds": 3.0, "tbtSeconds": 10.0}
    stepped.apply(scaled(tiny_model, by="SLO", slo=targets, load={"backlogSeconds": 600}))
    stepped.wait_until_complete()
    before = len(stepped.decisions())
    async with streams(stepped) as load:

        def late() -> list[dict[str, Any]]:
            made = stepped.decisions()[before:]
            return [one for one in made if one["reason"] == "TtftMissed"]

        asked: set[asyncio.Task[None]] = set()
        for _ in range(200):
            asked |= {asyncio.create_task(load.ask(900, 1)) for _ in range(40 - len(asked))}
            _, asked = await asyncio.wait(asked, timeout=0.5)
            if found := await asyncio.to_thread(late):
                break
        await asyncio.gather(*asked)
    print(found)
    assert [(one["pool"], one["from"], one["to"]) for one in found] == [("prompt", 1, 2)]
