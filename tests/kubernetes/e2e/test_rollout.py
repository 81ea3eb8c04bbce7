"""A new revision under load, and back in the middle: no request fails, none mixes revisions."""

import asyncio
import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from splitwise_core.tiny_tasks import counting
from tests.support.operated import Operated, quickstart

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

CLIENTS = 3


@dataclass
class Load:
    """Clients that ask one question after another until told to stop."""

    url: str
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def client(self, seed: int) -> None:
        draw = random.Random(seed)
        async with openai.AsyncOpenAI(
            base_url=self.url, api_key="none", max_retries=0, timeout=90
        ) as client:
            while not self.over.is_set():
                question = counting(draw)
                try:
                    answer = await client.completions.with_raw_response.create(
                        model="tiny",
                        prompt=question.prompt,
                        max_tokens=question.max_tokens,
                        temperature=0,
                    )
                except openai.OpenAIError as error:
                    self.wrong.append(f"{type(error).__name__}: {error}")
                    continue
                self.answered += 1
                text = answer.parse().choices[0].text.strip()
                if text != question.answer:
                    self.wrong.append(f"{question.prompt} -> {text}")
                names = ("x-splitwise-prompt-worker", "x-splitwise-token-worker")
                self.pairs.add((answer.headers[names[0]], answer.headers[names[1]]))


def one_of_each(model: Path) -> dict[str, Any]:
    """A worker for each phase."""
    document = quickstart(model)
    document["spec"]["pools"][1]["replicas"] = 1
    return document


def revision_of(pod: str) -> str:
    """A worker's pod is called <cluster>-<pool>-<revision>-<hash>-<hash>."""
    return pod.split("-")[-3]


async def until(cluster: Operated, progress: str) -> None:
    await asyncio.to_thread(cluster.wait, "Progressing", progress, within_s=240)


async def test_a_change_of_mind_in_the_middle_costs_no_request(
    operated: Operated, tiny_model: Path
) -> None:
    document = one_of_each(tiny_model)
    operated.apply(document)
    operated.wait_until_complete()
    first = operated.get()["status"]["revision"]
    load = Load(operated.url)
    clients = [asyncio.create_task(load.client(seed)) for seed in range(CLIENTS)]

    document["spec"]["model"]["maxLength"] = 1024
    operated.apply(document)
    await until(operated, "RollingOut")
    second = operated.get()["status"]["revision"]
    assert first != second
    await until_served_by(load, second, operated)

    del document["spec"]["model"]["maxLength"]
    operated.apply(document)
    await until(operated, "Complete")
    assert revisions(operated) == {first}
    load.pairs.clear()
    await until_served_by(load, first, operated)
    assert {revision_of(prompt) for prompt, _ in load.pairs} == {first}

    document["spec"]["model"]["maxLength"] = 1024
    operated.apply(document)
    await until(operated, "Complete")
    assert revisions(operated) == {second}
    await until_served_by(load, second, operated)
    load.over.set()
    await asyncio.gather(*clients)
    assert load.wrong == []
    assert load.answered > 50
    assert all(revision_of(prompt) == revision_of(token) for prompt, token in load.pairs)


def revisions(cluster: Operated) -> set[str]:
    return {own["metadata"]["labels"]["splitwise.dev/revision"] for own in cluster.pods()}


async def until_served_by(load: Load, revision: str, cluster: Operated) -> None:
    """Until a request was answered by a revision."""
    give_up_s = time.monotonic() + 120
    while not any(revision_of(prompt) == revision for prompt, _ in load.pairs):
        assert time.monotonic() < give_up_s, cluster.report()
        assert load.wrong == []
        await asyncio.sleep(0.2)


def test_a_broken_revision_takes_nothing_from_the_one_that_serves(
    operated: Operated, tiny_model: Path, tmp_path: Path
) -> None:
    document = one_of_each(tiny_model)
    operated.apply(document)
    operated.wait_until_complete()
    before = {own["metadata"]["name"] for own in operated.pods()}
    document["spec"]["model"]["path"] = str(tmp_path)  # there is no model in it
    operated.apply(document)
    operated.wait("Progressing", "RollingOut")
    operated.machine.soon(lambda: len(operated.pods("prompt")) == 2, operated.namespace)
    time.sleep(10)
    assert before <= {own["metadata"]["name"] for own in operated.pods()}
    operated.answers(2)
    document["spec"]["model"]["path"] = str(tiny_model)
    operated.apply(document)
    operated.wait_until_complete()
    assert {own["metadata"]["name"] for own in operated.pods()} == before
    assert httpx.get(operated.url.removesuffix("/v1") + "/readyz", timeout=5).status_code == 200
