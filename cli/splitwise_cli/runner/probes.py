"""Probes and hooks as a kubelet makes them: an HTTP GET, a TCP connection, a command, a pause."""

import asyncio
import signal
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from splitwise_cli.runner.environment import Invocation
from splitwise_cli.runner.process import signal_all, spawn


async def passes(
    probe: Mapping[str, Any], address: str, ports: Mapping[str, int], invocation: Invocation
) -> bool:
    """Whether the probe succeeds now, within its timeout."""
    try:
        async with asyncio.timeout(probe.get("timeoutSeconds", 1)):
            return await _attempt(probe, address, ports, invocation)
    except (OSError, TimeoutError, ValueError):  # ValueError: an answer without a line end
        return False


def _attempt(
    probe: Mapping[str, Any], address: str, ports: Mapping[str, int], invocation: Invocation
) -> Awaitable[bool]:
    if "httpGet" in probe:
        get = probe["httpGet"]
        return _http(address, _port(get["port"], ports), get.get("path", "/"))
    if "tcpSocket" in probe:
        return _tcp(address, _port(probe["tcpSocket"]["port"], ports))
    if "sleep" in probe:
        return _sleep(probe["sleep"]["seconds"])
    return _command(invocation.local(probe["exec"]["command"]), invocation.env)


def _port(port: int | str, ports: Mapping[str, int]) -> int:
    return ports[port] if isinstance(port, str) else port


async def _http(address: str, port: int, path: str) -> bool:
    """True for a status from 200 to 399. Reads no more than the status line."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        writer.write(request.encode())
        parts = (await reader.readline()).split(maxsplit=2)
        return len(parts) >= 2 and parts[1].isdigit() and 200 <= int(parts[1]) < 400
    finally:
        writer.close()


async def _tcp(address: str, port: int) -> bool:
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    return True


async def _sleep(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return True


async def _command(argv: Sequence[str], env: Mapping[str, str]) -> bool:
    process = await spawn(argv, env, asyncio.subprocess.DEVNULL)
    try:
        return await process.wait() == 0
    finally:
        signal_all(process.pid, signal.SIGKILL)
