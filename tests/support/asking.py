"""A steady load of small requests, from a thread of its own."""

import asyncio
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp

PROMPT_TOKENS: Final = 60
OUTPUT_TOKENS: Final = 12
ANSWERED_WITHIN_S: Final = 60


@contextmanager
def asked(url: str, at_once: int = 4) -> Iterator[Counter[str]]:
    """Requests, so many at a time, as long as it lasts; it counts the statuses of their answers."""
    statuses, over = Counter[str](), threading.Event()

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        while not over.is_set():
            prompt = [3 + (number * 7 + place * number) % 37 for place in range(PROMPT_TOKENS)]
            body = {"model": "tiny", "prompt": prompt, "max_tokens": OUTPUT_TOKENS}
            try:
                async with http.post(f"{url}/v1/completions", json=body) as answer:
                    await answer.read()
                    statuses[str(answer.status)] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                statuses[repr(error)] += 1
            number += at_once

    async def run() -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWERED_WITHIN_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            await asyncio.gather(*(ask(http, number) for number in range(at_once)))

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join(2 * ANSWERED_WITHIN_S)
