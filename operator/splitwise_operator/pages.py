"""Asking a pod for one of its pages: never more than so many bytes, and nobody else's."""

import json
from typing import Any

import aiohttp


async def get_json(http: aiohttp.ClientSession, url: str, max_bytes: int) -> Any:
    """The document there. Raises ValueError, and what aiohttp does."""
    return json.loads(await get_page(http, url, max_bytes))


async def get_page(http: aiohttp.ClientSession, url: str, max_bytes: int) -> bytes:
    """What is there. Raises ValueError, and what aiohttp does."""
    async with http.get(url, raise_for_status=True, allow_redirects=False) as answer:
        body = await answer.content.read(max_bytes + 1)
        while not answer.content.at_eof() and len(body) <= max_bytes:
            body += await answer.content.read(max_bytes + 1 - len(body))
    if len(body) > max_bytes:
        raise ValueError(f"an answer above {max_bytes} bytes")
    return body


def url_host(address: str) -> str:
    """A pod's address as it stands in a URL."""
    return f"[{address}]" if ":" in address else address
