"""The operator scales pools by the load that their workers tell it of."""

import asyncio
import random
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from splitwise_operator.manifest import cluster_of
from tests.support.operated import Operated, quickstart
from tests.support.replay import decided_again, decided_then

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

AT_ONCE = 200
PROMPT_TOKENS = 900
WITHIN_S = 60.0


async def flood(url: str) -> None:
    """Keeps so many requests of long prompts, none like another, and two tokens in flight."""
    draw = random.Random(5)

    async def ask_again_and_again(http: aiohttp.ClientSession) -> None:
        while True:
            prompt = [draw.randrange(3, 40) for _ in range(PROMPT_TOKENS)]
            body = {"model": "tiny", "prompt": prompt, "max_tokens": 2}
            with suppress(aiohttp.ClientError):
                async with http.post(f"{url}/completions", json=body) as answer:
                    await answer.read()
                    if answer.status == 429:
                        await asyncio.sleep(0.5)

    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        await asyncio.gather(*(ask_again_and_again(http) for _ in range(AT_ONCE)))


async def test_a_step_of_long_prompts_grows_the_prompt_pool_alone(
    operated: Operated, tiny_model: Path, record_property: Any
) -> None:
    document = quickstart(tiny_model)
    for pool in document["spec"]["pools"]:
        del pool["replicas"]
        pool["autoscaling"] = {"by": "Load", "maxReplicas": 2, "load": {"backlogSeconds": 0.3}}
    operated.apply(document)
    operated.wait_until_complete()
    operated.answers(2)
    began, stepped_s = datetime.now(UTC), time.monotonic()
    load = asyncio.create_task(flood(operated.url))
    try:
        while not operated.decisions() and time.monotonic() - stepped_s < WITHIN_S:
            await asyncio.sleep(0.2)
        took_s = time.monotonic() - stepped_s
    finally:
        load.cancel()
        await asyncio.wait([load])
    made = operated.decisions()
    assert made, operated.report()
    first = made[0]
    assert (first["pool"], first["from"], first["to"]) == ("prompt", 1, 2), operated.report()
    assert first["reason"] in ("BacklogHigh", "QueueFull")
    assert first["inputs"]
    record_property("first_decision_s", took_s)
    print(f"first decision {took_s:.1f} s after the step, {first}")
    assert datetime.fromisoformat(first["time"]) >= began.replace(microsecond=0)
    assert {one["pool"] for one in made if one["to"] > one["from"]} == {"prompt"}
    looks = operated.looks()
    cluster = cluster_of(operated.get())
    assert decided_again(cluster, looks) == decided_then(looks), "from what was told alone"
    pools = {pool["name"]: pool["scaledBy"] for pool in operated.get()["status"]["pools"]}
    assert pools == {"prompt": "Autoscaler", "token": "Spec"}
    events = operated.kubectl("get", "events", "-o", "jsonpath={.items[*].message}")
    assert "Pool prompt: from 1 to 2 workers" in events
