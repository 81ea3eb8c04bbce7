"""Pools may be at zero: what comes meanwhile waits at the router, and is told of at /queue."""

import asyncio
from pathlib import Path

import httpx

from tests.router.conftest import Start
from tests.router.support import completion, tokens_of
from tests.support.cluster import eventually
from tests.support.router import Stack, Worker

WAITING = 5


def queue(stack: Stack) -> int:
    return int(httpx.get(f"{stack.url}/queue", timeout=10).json()["requests"])


async def ask(url: str, model: Path, requests: int) -> list[httpx.Response]:
    """So many requests at once."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        body = completion(tokens_of(model), 4)
        asked = (client.post("/v1/completions", json=body) for _ in range(requests))
        return list(await asyncio.gather(*asked))


async def test_requests_wait_for_workers_that_wake(start: Start, model: Path) -> None:
    workers = [Worker("p0", "prompt"), Worker("t0", "token")]
    with start([], is_ready=True, wake_seconds=60, max_queued=WAITING) as stack:
        asking = asyncio.create_task(ask(stack.url, model, WAITING + 2))
        await asyncio.to_thread(eventually, lambda: queue(stack) == WAITING, 20, lambda: "queue")
        try:
            for worker in workers:
                worker.start(model)
            stack.router.list_workers(workers[:1])
            stack.router.list_workers(workers)
            answers = await asking
        finally:
            for worker in workers:
                worker.kill()
        assert sorted(answer.status_code for answer in answers) == [200] * WAITING + [429] * 2
        assert queue(stack) == 0
        assert stack.router.readiness()[0] == 200


async def test_the_wait_for_workers_has_an_end(start: Start, model: Path) -> None:
    with start([], is_ready=True, wake_seconds=0.5) as stack:
        eventually(lambda: queue(stack) == 0, 10, lambda: "it answers")
        (answer,) = await ask(stack.url, model, 1)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "no_workers"
        assert int(answer.headers["retry-after"]) >= 1
