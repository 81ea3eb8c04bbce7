"""A load on a cluster: so many generations at a time, or a flood of long prompts."""

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
async def streams(url: str) -> AsyncIterator[Streams]:
    """A load; every request of it must have been answered at the end."""
    timeout = aiohttp.ClientTimeout(total=240)
    async with aiohttp.ClientSession(timeout=timeout) as http:
        load = Streams(http, url)
        try:
            yield load
        finally:
            await load.end()
    assert load.failed == []
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
