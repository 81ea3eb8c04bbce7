"""kill -9 of any process during many streams: right answers or a clear end, and Ready again."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from openai import APIError, AsyncOpenAI

from tests.e2e.test_answers import reference
from tests.support.cluster import Cluster, all_blocks_are_free, eventually
from tests.support.streams import is_last, stream_of, tokens_in

pytestmark = pytest.mark.e2e

STREAMS = 50
TOKENS = 150
ENDS_WITHIN_S = 5.0


@dataclass(slots=True)
class Stream:
    """What one client saw."""

    tokens: list[str] = field(default_factory=list)
    finished: bool = False
    error: str = ""
    ended_s: float = 0.0


async def follow(client: AsyncOpenAI, prompt: list[int], stream: Stream) -> None:
    """Reads a stream to its end, whatever that is."""
    try:
        async with stream_of(client, prompt, TOKENS) as answer:
            async for chunk in answer:
                stream.tokens += tokens_in(chunk)
                stream.finished |= is_last(chunk)
    except (APIError, httpx.HTTPError) as error:
        stream.error = repr(error)
    stream.ended_s = time.monotonic()


async def streams_during(
    cluster: Cluster, prompts: list[list[int]], kill: tuple[str, str]
) -> tuple[list[Stream], float]:
    """Follows a stream per prompt, and kills a process when half of them have begun."""
    streams = [Stream() for _ in prompts]
    async with AsyncOpenAI(base_url=f"{cluster.url}/v1", api_key="none", max_retries=0) as client:
        tasks = [
            asyncio.create_task(follow(client, prompt, stream))
            for prompt, stream in zip(prompts, streams, strict=True)
        ]
        while sum(bool(stream.tokens) for stream in streams) < STREAMS // 2:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(cluster.kill, *kill)
        killed_s = time.monotonic()
        await asyncio.wait_for(asyncio.gather(*tasks), 120)
    return streams, killed_s


@pytest.mark.parametrize(
    ("role", "container"),
    [
        pytest.param("prompt", "worker", id="prompt worker"),
        pytest.param("token", "worker", id="token worker"),
        pytest.param("prompt", "kv", id="prompt sidecar"),
        pytest.param("token", "kv", id="token sidecar"),
        pytest.param("router", "router", id="router"),
    ],
)
def test_kill_9(two_of_each: Cluster, tiny_model: Path, role: str, container: str) -> None:
    prompts = [[7 + n % 50] * (20 + 10 * n) for n in range(STREAMS)]
    pod = two_of_each.pods(role)[0]
    streams, killed_s = asyncio.run(streams_during(two_of_each, prompts, (pod["name"], container)))

    wanted = reference(tiny_model)
    finished = [stream for stream in streams if stream.finished]
    for stream, prompt in zip(streams, prompts, strict=True):
        expected = [wanted.tokenizer.decode([t]) for t in wanted.tokens(prompt, TOKENS)]
        assert stream.tokens == expected[: len(stream.tokens)], "a wrong token was sent"
        if stream.finished:
            assert stream.tokens == expected
        else:
            assert stream.error, "a stream ended early and said nothing"
            assert stream.ended_s - killed_s < ENDS_WITHIN_S
    if role != "router":
        assert len(finished) == STREAMS, [s.error for s in streams if s.error]

    eventually(
        lambda: all(pod["ready"] for pod in two_of_each.pods()),
        30,
        lambda: f"{two_of_each.pods()}\n{two_of_each.logs()}",
    )
    restarted = next(p for p in two_of_each.pods() if p["name"] == pod["name"])
    assert restarted["restarts"] > pod["restarts"]
    all_blocks_are_free(two_of_each)
