"""A byte that flips on its way never becomes a wrong token: it is sent again, or computed again."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.flipping_proxy import FlippingProxy
from tests.support.house import House, ask, house

pytestmark = pytest.mark.e2e

LAYERS = 2  # of the tiny model; each is one frame here


def through_a_proxy(
    directory: Path, model: Path, act: Callable[[House, FlippingProxy], Awaitable[None]]
) -> None:
    """Starts a house whose transfers pass a proxy, and runs `act` with both."""

    async def run() -> None:
        with house(directory, model) as built:
            ports = built.ports
            proxy = FlippingProxy(f"127.0.0.1:{ports['token-kv']}", ports["token-kv-tcp"])
            await proxy.start()
            await asyncio.to_thread(built.start, proxy.address)
            try:
                await act(built, proxy)
            finally:
                await proxy.stop()

    asyncio.run(run())


async def count(built: House, process: str, name: str, **labels: str) -> float:
    return await asyncio.to_thread(lambda: built.metric(process, name, **labels))


def test_one_flipped_byte_costs_a_push_and_no_token(tmp_path: Path, tiny_model: Path) -> None:
    async def act(built: House, proxy: FlippingProxy) -> None:
        undamaged = await ask(built)
        proxy.flips = 1
        answer = await ask(built)
        assert answer.json()["choices"] == undamaged.json()["choices"]
        assert proxy.damaged == 1
        assert await count(built, "token-kv-status", "splitwise_kv_damaged_layers_total") == 1
        assert await count(built, "prompt-kv-status", "splitwise_kv_repushes_total") == 1

    through_a_proxy(tmp_path, tiny_model, act)


def test_kv_that_is_damaged_again_is_computed_again(tmp_path: Path, tiny_model: Path) -> None:
    async def act(built: House, proxy: FlippingProxy) -> None:
        undamaged = await ask(built)
        proxy.flips = 2 * LAYERS  # the first push, and the second one
        answer = await ask(built)
        assert answer.json()["choices"] == undamaged.json()["choices"]
        assert proxy.damaged == 2 * LAYERS
        retries = "splitwise_router_retries_total"
        assert await count(built, "router", retries, reason="digest_mismatch") == 1

    through_a_proxy(tmp_path, tiny_model, act)


def test_a_link_that_damages_everything_ends_in_a_clear_error(
    tmp_path: Path, tiny_model: Path
) -> None:
    async def act(built: House, proxy: FlippingProxy) -> None:
        proxy.flips = 10**6
        answer = await ask(built)
        assert answer.status_code == 503
        assert "DIGEST_MISMATCH" in answer.json()["error"]["message"]
        proxy.flips = 0
        assert (await ask(built)).status_code == 200

    through_a_proxy(tmp_path, tiny_model, act)
