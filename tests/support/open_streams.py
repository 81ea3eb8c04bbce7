"""Generations that begin together, and how many of them are open: what a load itself knows."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import aiohttp

from tests.support.loads import LONG, Streams


class OpenStreams:
    """Generations that began together, and how many of them were open when."""

    AROUND_S = (1.0, 3.0)
    """Of a scrape and of an answer that is on its way, on a machine that is slow."""

    def __init__(self) -> None:
        self.open = 0
        self._past = [(0.0, 0)]

    @classmethod
    @asynccontextmanager
    async def of(cls, url: str, streams: int) -> AsyncIterator["OpenStreams"]:
        """So many at once; those that are open at the end are given up."""
        load = cls()
        timeout = aiohttp.ClientTimeout(total=240)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            asked = Streams(http, f"{url}/v1")
            load._changed(streams)
            tasks = [asyncio.create_task(load._generate(asked)) for _ in range(streams)]
            try:
                yield load
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        assert asked.failed == []

    async def _generate(self, asked: Streams) -> None:
        await asked.ask(16, LONG)
        self._changed(-1)

    def _changed(self, by: int) -> None:
        self.open += by
        self._past.append((time.time(), self.open))

    def open_about(self, at_s: float) -> tuple[int, int]:
        """The least and the most that were open about that time."""
        before, after = self.AROUND_S
        since = max(when for when, _ in self._past if when <= at_s - before)
        counts = [count for when, count in self._past if since <= when <= at_s + after]
        return min(counts), max(counts)

    def knows(self, shown: Sequence[tuple[float, float]], more_than: int) -> bool:
        """Whether it is sure of how many were open when one of these was seen, and of so many."""
        found = (self.open_about(at_s) for at_s, _ in shown)
        return any(least == most > more_than for least, most in found)
