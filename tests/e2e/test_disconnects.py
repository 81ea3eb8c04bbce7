"""Clients that go away leave nothing behind."""

import asyncio

import httpx
import pytest

from tests.support.cluster import Cluster, all_blocks_are_free

pytestmark = pytest.mark.e2e

CLIENTS = 200


async def leave_midway(client: httpx.AsyncClient, tokens: int) -> int:
    """Reads a few events of a long stream and hangs up; how many events came."""
    body = {
        "model": "tiny",
        "prompt": [7] * 200,
        "max_tokens": 1500,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    seen = 0
    async with client.stream("POST", "/v1/completions", json=body) as response:
        assert response.status_code in (200, 429, 503), await response.aread()
        async for line in response.aiter_lines():
            seen += line.startswith("data:")
            if seen >= tokens:
                break
    return seen


def test_clients_that_hang_up_midway_free_every_block(cluster: Cluster) -> None:
    async def all_leave() -> list[int]:
        limits = httpx.Limits(max_connections=CLIENTS)
        async with httpx.AsyncClient(base_url=cluster.url, timeout=120, limits=limits) as client:
            return await asyncio.gather(*(leave_midway(client, 1 + n % 5) for n in range(CLIENTS)))

    seen = asyncio.run(all_leave())
    assert sum(count > 0 for count in seen) > CLIENTS // 4, "hardly any stream began"
    all_blocks_are_free(cluster)


def test_a_client_that_hangs_up_before_its_first_token_frees_every_block(cluster: Cluster) -> None:
    async def leave_early() -> None:
        async with httpx.AsyncClient(base_url=cluster.url) as client:
            for delay_s in (0.001, 0.005, 0.02, 0.05):
                with pytest.raises(httpx.TimeoutException):
                    await client.post(
                        "/v1/completions",
                        json={"model": "tiny", "prompt": [7] * 1500, "max_tokens": 400},
                        timeout=httpx.Timeout(10, read=delay_s),
                    )

    asyncio.run(leave_early())
    all_blocks_are_free(cluster)
