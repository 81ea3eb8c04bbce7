"""A byte that flips on its way never becomes a wrong token: it is sent again, or computed again."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from splitwise_core.tiny_tasks import questions
from tests.support.cluster import Metrics, eventually
from tests.support.flipping_proxy import FlippingProxy
from tests.support.ports import free_port

pytestmark = pytest.mark.e2e

BIN = Path(sys.executable).parent
LAYERS = 2  # of the tiny model; each is one frame here


class House:
    """One prompt and one token worker with their sidecars, and a router, by their command lines.

    What would push to the token worker is told the proxy's address instead.
    """

    def __init__(self, directory: Path, model: Path, stack: ExitStack) -> None:
        self._directory = directory
        self._model = model
        self._stack = stack
        self.ports = {
            f"{role}-{name}": free_port()
            for role in ("prompt", "token")
            for name in ("grpc", "status", "kv", "kv-tcp", "kv-status")
        }
        self.router = free_port()

    def start(self, token_sidecar: str) -> None:
        """Starts everything and waits until requests can be placed."""
        listed = []
        for role in ("prompt", "token"):
            ports = {name: self.ports[f"{role}-{name}"] for name in ("grpc", "status", "kv")}
            seen_at = token_sidecar if role == "token" else f"127.0.0.1:{ports['kv']}"
            self._pod(role, ports, seen_at)
            at = f"127.0.0.1:{ports['grpc']}"
            listed.append({"address": at, "pod": role, "pool": role, "role": role})
        endpoints = self._directory / "endpoints.json"
        endpoints.write_text(json.dumps({"workers": listed}))
        self._run(
            "router",
            listen=f"127.0.0.1:{self.router}",
            endpoints=endpoints,
            model=self._model,
            model_name="tiny",
            probe_seconds=3600,
        )
        eventually(self._ready, 60, self._logs)
        eventually(self._is_measured, 60, self._logs)

    def _pod(self, role: str, ports: dict[str, int], seen_at: str) -> None:
        sock = self._directory / f"{role}.sock"
        self._run(
            "sidecar",
            socket=sock,
            listen=f"127.0.0.1:{ports['kv']}",
            listen_tcp=f"127.0.0.1:{self.ports[f'{role}-kv-tcp']}",
            transports="tcp",
            status=f"127.0.0.1:{self.ports[f'{role}-kv-status']}",
            role=role,
            pool=role,
        )
        self._run(
            "worker",
            worker_id=role,
            pool=role,
            role=role,
            model=self._model,
            model_name="tiny",
            kv_memory=2**26,
            listen=f"127.0.0.1:{ports['grpc']}",
            status=f"127.0.0.1:{ports['status']}",
            sidecar_socket=sock,
            sidecar_address=seen_at,
        )

    def _run(self, component: str, **options: object) -> None:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        log = self._stack.enter_context((self._directory / "log.txt").open("a"))
        process = subprocess.Popen([str(BIN / f"splitwise-{component}"), *flags], stderr=log)
        self._stack.callback(process.wait, 30)
        self._stack.callback(process.kill)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.router}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def _is_measured(self) -> bool:
        """Whether the link is known: until then its measurement would be damaged too."""
        return self.metric("router", "splitwise_router_links", state="working") == 1

    def _logs(self) -> str:
        return (self._directory / "log.txt").read_text()

    def metric(self, process: str, name: str, **labels: str) -> float:
        port = self.router if process == "router" else self.ports[process]
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        return Metrics(text).value(name, **labels)


@contextmanager
def house(directory: Path, model: Path) -> Iterator[House]:
    with ExitStack() as stack:
        yield House(directory, model, stack)


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


async def ask(built: House) -> httpx.Response:
    """A lookup over 600 tokens, whose right answer is known, and 18 tokens more."""
    question = questions(3, seed=4, longest=600)[2]
    body = {
        "model": "tiny",
        "prompt": question.prompt,
        "max_tokens": 20,
        "temperature": 0,
        "ignore_eos": True,
    }
    async with httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{built.router}/v1/completions"
        answer = await client.post(url, json=body)
    if answer.status_code == 200:
        assert answer.json()["choices"][0]["text"].split()[0] == question.answer
    return answer


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
