"""More than the workers can do: who waits, who is turned away, and what they are told."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx

from tests.router.conftest import Start
from tests.router.support import completion
from tests.support.router import Stack, Worker

PROMPT = [7] * 60
WITHIN_S = 10.0
TEN_A_SECOND = {"prompt_tokens_per_s": 10}  # six seconds a prompt
ENDLESS = {"hang_after_tokens": 0}
QUEUED = "splitwise_router_queued_requests"
REJECTED = "splitwise_router_rejected_requests_total"
WAIT = "splitwise_router_expected_wait_seconds"


class Crowd:
    """Clients, one after the other; the first one's prompt never ends."""

    def __init__(self, stack: Stack, client: httpx.AsyncClient) -> None:
        self._stack = stack
        self._client = client
        self.asked: list[asyncio.Task[httpx.Response]] = []

    async def come(self, key: str = "one") -> asyncio.Task[httpx.Response]:
        """Another request; comes back when the router has it."""
        names = "splitwise_router_inflight_requests", QUEUED, REJECTED
        before = await self.metrics(*names)
        headers = {"authorization": f"Bearer {key}"}
        post = self._client.post("/v1/completions", json=completion(PROMPT, 40), headers=headers)
        request = asyncio.create_task(post)
        self.asked.append(request)
        while not request.done() and await self.metrics(*names) == before:
            pass  # each look takes a while, and the client's patience ends
        return request

    async def metrics(self, *names: str) -> Sequence[float]:
        """What the router says now."""
        return [await asyncio.to_thread(self._stack.metric, name) for name in names]


@asynccontextmanager
async def crowd(stack: Stack) -> AsyncIterator[Crowd]:
    """Clients who all hang up at the end."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        made = Crowd(stack, client)
        try:
            yield made
        finally:
            for task in made.asked:
                task.cancel()
            await asyncio.gather(*made.asked, return_exceptions=True)


def test_who_would_wait_for_too_long_is_told_at_once_when_to_come_back(start: Start) -> None:
    async def ask(stack: Stack) -> None:
        async with crowd(stack) as clients:
            first, second = await clients.come(), await clients.come()
            assert await clients.metrics(QUEUED, WAIT) == [1, 12]
            third = await (await clients.come())
            assert third.status_code == 429
            assert third.json()["error"]["code"] == "no_capacity"
            assert "router.maxQueueSeconds" in third.json()["error"]["message"]
            assert third.headers["retry-after"] == "2"  # then it would wait for ten seconds
            assert not first.done()
            assert not second.done()
            assert await clients.metrics(REJECTED + '{reason="would-wait"}') == [1]

    workers = [Worker("p0", "prompt", TEN_A_SECOND | ENDLESS), Worker("t0", "token")]
    with start(workers, max_queue_seconds=10, borrowing="off") as stack:
        asyncio.run(ask(stack))


def test_prompts_go_to_the_worker_that_has_not_enough_of_them(start: Start) -> None:
    async def ask(stack: Stack) -> None:
        async with crowd(stack) as clients:
            for _ in range(2):
                await clients.come()
            assert await clients.metrics(QUEUED) == [0]
            async with asyncio.timeout(WITHIN_S):
                while [worker.load().queued_requests for worker in pair] != [1, 1]:
                    await asyncio.sleep(0.01)
            await clients.come()
            assert await clients.metrics(QUEUED) == [1]

    pair = [Worker(name, "mixed", TEN_A_SECOND | ENDLESS) for name in ("w0", "w1")]
    with start(pair, max_queue_seconds=10) as stack:
        asyncio.run(ask(stack))


def test_who_has_waited_for_too_long_is_turned_away_though_no_speed_is_known(start: Start) -> None:
    async def ask(stack: Stack) -> None:
        async with crowd(stack) as clients:
            first, second = await clients.come(), await clients.come()
            answer = await second
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert not first.done()
            assert await clients.metrics(REJECTED + '{reason="waited"}', QUEUED) == [1, 0]

    workers = [Worker("w0", "mixed", ENDLESS | {"max_sequences": 1})]
    with start(workers, max_queue_seconds=0.5) as stack:
        asyncio.run(ask(stack))


def test_who_has_piled_up_the_most_is_turned_away_first(start: Start) -> None:
    async def ask(stack: Stack) -> None:
        async with crowd(stack) as clients:
            heavy = [await clients.come("heavy") for _ in range(4)]
            assert await clients.metrics(QUEUED) == [2]
            light = await clients.come("light")
            assert (await heavy[-1]).status_code == 429
            assert not light.done()
            assert not any(request.done() for request in heavy[:-1])

    workers = [Worker("w0", "mixed", TEN_A_SECOND | ENDLESS)]
    with start(workers, max_queue_seconds=20) as stack:
        # two run; the next two wait for 12 and 18 s, and behind another client's it were 24
        asyncio.run(ask(stack))
