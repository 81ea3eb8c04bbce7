"""Workers that are to end while streams run: every answer is as if nothing had happened."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from tests.support.cluster import (
    Cluster,
    all_blocks_are_free,
    eventually,
    running,
    write_cluster,
)
from tests.support.ports import free_port

pytestmark = pytest.mark.e2e

STREAMS = 8
TOKENS = 1800
"""So many may come that no worker waits for the end of what it decodes."""

READ = 800
"""Tokens that a client compares; it reads on until the workers are gone that are to end."""

PROMPTS = [[7 + n % 30] * (20 + 10 * n) for n in range(STREAMS)]


@pytest.fixture(scope="module")
def cluster(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two workers of each role, so that there is always another one."""
    directory = tmp_path_factory.mktemp("drains")
    pools = [
        {"name": "prompt", "role": "prompt", "replicas": 2, "kvMemory": "256Mi"},
        {"name": "token", "role": "token", "replicas": 2, "kvMemory": "256Mi"},
    ]
    file = write_cluster(directory, tiny_model, pools=pools)
    with running(file, directory / "state", "--port", str(free_port())) as cluster:
        yield cluster


async def follow(
    client: AsyncOpenAI, prompt: list[int], tokens: list[str], drained: asyncio.Event
) -> None:
    """Reads the beginning of a stream; no error is expected."""
    async with await client.completions.create(
        model="tiny",
        prompt=prompt,
        max_tokens=TOKENS,
        temperature=0,
        stream=True,
        logprobs=0,
        extra_body={"ignore_eos": True},
    ) as answer:
        async for chunk in answer:
            for choice in chunk.choices:
                if choice.logprobs and choice.logprobs.tokens:
                    tokens += choice.logprobs.tokens
            if len(tokens) >= READ and drained.is_set():
                return


async def streams(cluster: Cluster, to_end: list[int]) -> list[list[str]]:
    """What clients got, while the workers of these processes are told to end."""
    answers: list[list[str]] = [[] for _ in PROMPTS]
    drained = asyncio.Event()
    async with AsyncOpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as client:
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            for prompt, tokens in zip(PROMPTS, answers, strict=True):
                group.create_task(follow(client, prompt, tokens, drained))
            while not all(answers):
                await asyncio.sleep(0.01)
            for pid in to_end:
                os.kill(pid, signal.SIGTERM)
            while any(is_there(pid) for pid in to_end):
                await asyncio.sleep(0.05)
            drained.set()
    return [tokens[:READ] for tokens in answers]


def is_there(pid: int) -> bool:
    """Whether the process has not ended."""
    return Path(f"/proc/{pid}").exists()


def worker_of(pod: dict[str, object]) -> int:
    """The process of a pod's worker."""
    containers: list[dict[str, int]] = pod["containers"]  # type: ignore[assignment]
    return next(one["pid"] for one in containers if one["name"] == "worker")


def test_streams_go_on_from_a_peer_as_if_nothing_had_happened(cluster: Cluster) -> None:
    """INV-1, INV-2, INV-4, INV-18."""
    undisturbed = asyncio.run(streams(cluster, []))
    assert {len(tokens) for tokens in undisturbed} == {READ}
    (router,) = cluster.pods("router")
    victims = [cluster.pods(role)[0] for role in ("token", "prompt")]
    drained = asyncio.run(streams(cluster, [worker_of(pod) for pod in victims]))
    assert drained == undisturbed
    counted = cluster.metrics(router)
    assert counted.value("splitwise_router_moves_total", move="moved") > 0, cluster.logs()
    assert counted.value("splitwise_router_retries_total", reason="peer_lost") == 0
    pauses = counted.value("splitwise_request_move_pause_seconds_count")
    assert pauses == counted.value("splitwise_router_moves_total", move="moved")
    assert counted.value("splitwise_router_moved_kv_bytes_total") > 0
    eventually(lambda: all(pod["ready"] for pod in cluster.pods()), 60, cluster.logs)
    for pod in victims:
        (log,) = cluster.state_dir.rglob(f"{pod['name']}.worker.log")
        assert 'msg="drained"' in log.read_text()
    all_blocks_are_free(cluster)
