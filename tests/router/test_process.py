"""The router as a process: how it starts, refuses to start, and ends."""

import asyncio
import socket
import subprocess
from pathlib import Path

import httpx

from tests.router.conftest import Start
from tests.router.support import WORDS, completion, read_stream, tokens_of
from tests.support.router import Router, Worker


def refused(router: Router, model: Path) -> str:
    """What a router that cannot start says; it must end with 2 by itself."""
    done = subprocess.run(router.command(model), capture_output=True, text=True, timeout=30)
    assert done.returncode == 2, done.stderr
    return done.stderr


def test_a_taken_port_is_named(tmp_path: Path, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        router = Router(tmp_path, port=taken.getsockname()[1])
        assert f"127.0.0.1:{router.port}" in refused(router, model)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refused(Router(tmp_path), tmp_path / "nowhere")


def test_a_damaged_list_of_workers_is_named(tmp_path: Path, model: Path) -> None:
    router = Router(tmp_path)
    router.endpoints.write_text('{"workers": [{"pod": "w0"}]}')
    assert str(router.endpoints) in refused(router, model)


def test_a_file_without_a_capability_key_is_named(tmp_path: Path, model: Path) -> None:
    path = tmp_path / "capability.key"
    path.write_text("no key")
    router = Router(tmp_path, {"capability_key": path})
    router.list_workers([])
    said = refused(router, model)
    assert f"--capability-key {path}: line 1" in said
    assert "fix: " in said


def test_sigterm_lets_running_streams_end(start: Start, model: Path) -> None:
    async def ask(url: str) -> str:
        async with httpx.AsyncClient(base_url=url) as client:
            body = completion(tokens_of(model), 20 * len(tokens_of(model)))
            reading = asyncio.create_task(read_stream(client, "/v1/completions", body))
            while (
                "splitwise_router_inflight_requests 1.0" not in (await client.get("/metrics")).text
            ):
                await asyncio.sleep(0.01)
            stack.router.process.terminate()  # type: ignore[union-attr]
            return (await reading).text

    with start([Worker("w0", "mixed")]) as stack:
        assert asyncio.run(ask(stack.url)) == 20 * WORDS
        code, log = stack.router.ended()
        assert code == 0
        assert "Traceback" not in log
