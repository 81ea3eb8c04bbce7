"""A load on a cluster: so many generations at a time or a second, or a flood of long prompts."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiohttp

LONG: Final = 1000
"""Tokens of one generation."""
AT_ONCE: Final = 80
"""More than a worker has places for; many more would keep a router from answering its probes."""
PROMPT_TOKENS: Final = 900


class Streams:
    """Generations: so many at a time, one after the other; or so many a second, come what may.

    `failed` has what went wrong.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.ended, self.failed = 0, list[str]()
        self._http, self._url = http, url
        self._draw = random.Random(7)
        self._running: dict[int, asyncio.Task[None]] = {}
        self._wanted = 0
        self._pacing: asyncio.Task[None] | None = None
        self._paced = set[asyncio.Task[None]]()

    def pace(self, per_s: float, prompt_tokens: int, output_tokens: int) -> None:
        """So many requests a second from now on, evenly; none at 0."""
        if self._pacing is not None:
            self._pacing.cancel()
        if per_s:
            asking = self._send(1 / per_s, prompt_tokens, output_tokens)
            self._pacing = asyncio.create_task(asking)

    async def _send(self, every_s: float, prompt_tokens: int, output_tokens: int) -> None:
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            asked = asyncio.create_task(self.ask(prompt_tokens, output_tokens))
            self._paced.add(asked)
            asked.add_done_callback(self._paced.discard)
            due_s += every_s
            await asyncio.sleep(due_s - loop.time())

    def set(self, streams: int) -> None:
        """More begin at once; of too many each ends its generation."""
        self._wanted = streams
        for number in range(streams):
            if number not in self._running:
                self._running[number] = asyncio.create_task(self._generate(number))

    async def end(self) -> None:
        """Returns when the last generation has ended."""
        self.set(0)
        self.pace(0, 0, 0)
        while waiting := {*self._running.values(), *self._paced}:
            await asyncio.wait(waiting)

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
async def streams(url: str) -> AsyncIterator[Streams]:
    """A load; every request of it must have been answered at the end."""
    timeout = aiohttp.ClientTimeout(total=240)
    connector = aiohttp.TCPConnector(limit=0)  # who still waits holds nobody else up
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        load = Streams(http, url)
        try:
            yield load
        finally:
            await load.end()
    assert load.failed == [], load.failed[:3]
    assert load.ended > 0


async def flood(url: str) -> None:
    """Keeps so many requests of long prompts, none like another, in flight. They ask for one token,
    which the prompt's worker gives."""
    draw = random.Random(5)

    async def ask_again_and_again(http: aiohttp.ClientSession) -> None:
        while True:
            prompt = [draw.randrange(3, 40) for _ in range(PROMPT_TOKENS)]
            body = {"model": "tiny", "prompt": prompt, "max_tokens": 1}
            with suppress(aiohttp.ClientError):
                async with http.post(f"{url}/completions", json=body) as answer:
                    await answer.read()
                    if answer.status == 429:
                        await asyncio.sleep(2)

    connector = aiohttp.TCPConnector(limit=AT_ONCE)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        await asyncio.gather(*(ask_again_and_again(http) for _ in range(AT_ONCE)))


@asynccontextmanager
async def flooded(url: str) -> AsyncIterator[None]:
    """A flood while it lasts; what is unanswered then is given up."""
    load = asyncio.create_task(flood(url))
    try:
        yield
    finally:
        load.cancel()
        await asyncio.wait([load])
