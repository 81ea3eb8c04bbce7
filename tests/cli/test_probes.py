"""Probes against real sockets and real commands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from splitwise_cli.runner.environment import Invocation
from splitwise_cli.runner.probes import passes

ADDRESS = "127.66.3.1"


def here(mounts: dict[str, Path] | None = None) -> Invocation:
    return Invocation([], {"PATH": "/usr/bin:/bin", "WORD": "yes"}, mounts or {})


@asynccontextmanager
async def answering(reply: bytes | None) -> AsyncIterator[int]:
    """The port of a server that says `reply` to whoever connects; with None it says nothing."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reply is not None:
            await reader.readline()
            writer.write(reply)
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, ADDRESS, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def probed(probe: dict[str, Any], port: int = 1, **env: Any) -> bool:
    return await passes(probe, ADDRESS, {"http": port}, here(**env))


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", True, id="200"),
        pytest.param(b"HTTP/1.0 204\r\n\r\n", True, id="no reason phrase"),
        pytest.param(b"HTTP/1.1 302 Found\r\n\r\n", True, id="a redirect"),
        pytest.param(b"HTTP/1.1 400 Bad\r\n\r\n", False, id="400"),
        pytest.param(b"HTTP/1.1 503 Busy\r\n\r\n", False, id="503"),
        pytest.param(b"HTTP/1.1 2000 ?\r\n\r\n", False, id="no status at all"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", False, id="another protocol"),
        pytest.param(b"", False, id="closed at once"),
        pytest.param(b"x" * 100_000, False, id="a line without an end"),
        pytest.param(None, False, id="silence"),
    ],
)
async def test_http(reply: bytes | None, expected: bool) -> None:
    async with answering(reply) as port:
        for named in ("http", port):
            get = {"path": "/healthz", "port": named}
            assert await probed({"httpGet": get, "timeoutSeconds": 0.3}, port) is expected


async def test_http_where_nobody_listens() -> None:
    async with answering(b"") as port:
        pass
    assert not await probed({"httpGet": {"path": "/", "port": port}})


async def test_tcp_asks_only_whether_somebody_listens() -> None:
    async with answering(None) as port:
        assert await probed({"tcpSocket": {"port": "http"}}, port)
    assert not await probed({"tcpSocket": {"port": port}})


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        pytest.param(["true"], True, id="status 0"),
        pytest.param(["false"], False, id="status 1"),
        pytest.param(["no-such-command"], False, id="nothing to run"),
        pytest.param(["sh", "-c", 'test "$WORD" = yes'], True, id="sees the environment"),
        pytest.param(["sleep", "60"], False, id="too slow"),
    ],
)
async def test_commands(command: list[str], expected: bool) -> None:
    probe = {"exec": {"command": command}, "timeoutSeconds": 0.5}
    assert await probed(probe) is expected


async def test_a_command_sees_what_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "ready").touch()
    probe = {"exec": {"command": ["test", "-e", "/run/splitwise/ready"]}}
    assert await probed(probe, mounts={"/run/splitwise": tmp_path})
    assert not await probed(probe, mounts={"/run/splitwise": tmp_path / "other"})
