"""Workers that are to end while streams run: every answer is as if nothing had happened."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from openai import AsyncOpenAI

from tests.support.cluster import Cluster, all_blocks_are_free, eventually
from tests.support.streams import stream_of, tokens_in

pytestmark = pytest.mark.e2e

STREAMS = 8
TOKENS = 1800
"""So many may come that no worker waits for the end of what it decodes."""

READ = 300
"""Tokens that a client compares; it reads on until the workers are gone that are to end."""

PROMPTS = [[7 + n % 30] * (20 + 10 * n) for n in range(STREAMS)]


async def follow(
    client: AsyncOpenAI, prompt: list[int], tokens: list[str], drained: asyncio.Event
) -> None:
    """Reads the beginning of a stream; no error is expected."""
    async with stream_of(client, prompt, TOKENS) as answer:
        async for chunk in answer:
            tokens += tokens_in(chunk)
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


def test_streams_go_on_from_a_peer_as_if_nothing_had_happened(two_of_each: Cluster) -> None:
    """INV-1, INV-2, INV-4, INV-18."""
    undisturbed = asyncio.run(streams(two_of_each, []))
    assert {len(tokens) for tokens in undisturbed} == {READ}
    (router,) = two_of_each.pods("router")
    victims = [two_of_each.pods(role)[0] for role in ("token", "prompt")]
    drained = asyncio.run(streams(two_of_each, [worker_of(pod) for pod in victims]))
    assert drained == undisturbed
    counted = two_of_each.metrics(router)
    assert counted.value("splitwise_router_moves_total", move="moved") > 0, two_of_each.logs()
    assert counted.value("splitwise_router_retries_total", reason="peer_lost") == 0
    pauses = counted.value("splitwise_request_move_pause_seconds_count")
    assert pauses == counted.value("splitwise_router_moves_total", move="moved")
    assert counted.value("splitwise_router_moved_kv_bytes_total") > 0
    eventually(lambda: all(pod["ready"] for pod in two_of_each.pods()), 60, two_of_each.logs)
    for pod in victims:
        (log,) = two_of_each.state_dir.rglob(f"{pod['name']}.worker.log")
        assert 'msg="drained"' in log.read_text()
    all_blocks_are_free(two_of_each)
