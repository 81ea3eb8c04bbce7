"""Asks workers for their load and routers for their queues: each by itself, none for long."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import aiohttp

from splitwise_core.metrics.operator import LOAD_READINGS
from splitwise_core.telemetry import Telemetry
from splitwise_operator.pages import get_json

DEADLINE_S: Final = 1.5
AT_ONCE: Final = 64
MAX_BYTES: Final = 1 << 16

Answer = TypeVar("Answer")


class LoadReader:
    """One for all clusters, so that `AT_ONCE` bounds them together."""

    def __init__(self, http: aiohttp.ClientSession, telemetry: Telemetry) -> None:
        self._http = http
        self._telemetry = telemetry
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def read(
        self, addresses: Mapping[str, str], parse: Callable[[Any], Answer]
    ) -> dict[str, Answer]:
        """By name, what those answer that do, and with sense. Raises nothing."""
        answers = await asyncio.gather(*(self._ask(url, parse) for url in addresses.values()))
        return {name: answer for name, answer in zip(addresses, answers) if answer is not None}

    async def _ask(self, url: str, parse: Callable[[Any], Answer]) -> Answer | None:
        try:
            async with self._slots, asyncio.timeout(DEADLINE_S):
                made = parse(await get_json(self._http, url, MAX_BYTES))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            self._telemetry.counter(LOAD_READINGS, result="failed").inc()
            return None
        self._telemetry.counter(LOAD_READINGS, result="done").inc()
        return made
