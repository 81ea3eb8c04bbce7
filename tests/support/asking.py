"""A steady load of small requests, from a thread of its own."""

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import aiohttp

PROMPT_TOKENS: Final = 60
OUTPUT_TOKENS: Final = 12
DIFFERENT: Final = 37
ANSWERED_WITHIN_S: Final = 60


@contextmanager
def asked(
    url: str,
    at_once: int = 4,
    prompt_tokens: int = PROMPT_TOKENS,
    output_tokens: int = OUTPUT_TOKENS,
    different: int = DIFFERENT,
) -> Iterator[Counter[str]]:
    """Requests, so many at a time, as long as it lasts; it counts the statuses of their answers.

    Of as many `different` prompts each is asked again and again. Who is turned away comes back when
    it was told to.
    """
    statuses, over = Counter[str](), threading.Event()

    async def ask(http: aiohttp.ClientSession, number: int) -> None:
        while not over.is_set():
            draw = random.Random(number % different)
            prompt = [draw.randrange(3, 40) for _ in range(prompt_tokens)]
            body = {"model": "tiny", "prompt": prompt, "max_tokens": output_tokens}
            try:
                async with http.post(f"{url}/v1/completions", json=body) as answer:
                    await answer.read()
                    statuses[str(answer.status)] += 1
                await asyncio.sleep(float(answer.headers.get("retry-after", 0)))
            except (aiohttp.ClientError, TimeoutError) as error:
                statuses[repr(error)] += 1
            number += at_once

    async def run() -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWERED_WITHIN_S)
        connector = aiohttp.TCPConnector(limit=at_once)
        async with aiohttp.ClientSession(timeout=timeout, connector=connector) as http:
            await asyncio.gather(*(ask(http, number) for number in range(at_once)))

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join(2 * ANSWERED_WITHIN_S)
