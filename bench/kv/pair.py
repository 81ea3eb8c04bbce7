"""Two real sidecars, each a process of its own, and two workers that compute nothing."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from psutil import Process

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from tests.support.certificates import NAME
from tests.support.kv_worker import KvWorker
from tests.support.ports import free_port

START_S = 20.0
KV_STANDS: Final = 0.12
"""The part of a layer's time after which its K/V stand in the pool, and the worker says so: Q, K
and V are 11.5 % of the multiplications of a layer of Llama-3-8B and 9.8 % of one of 70B, by their
published sizes: width x (width + 2 KV widths) of that and width x (width + 3 MLP widths)."""
SIDECARS_SAY: int | None = subprocess.DEVNULL


@dataclass(frozen=True, slots=True)
class Moved:
    """One transfer, as its prompt worker was told of it.

    `seen_s`: seconds from the prompt's end until the token worker was told that it may decode.
    """

    ended: kv_pb2.TransferEnded
    seen_s: float


class Pair:
    """A prompt and a token worker whose sidecars move KV by one transport."""

    def __init__(
        self,
        transport: str,
        prompt: KvWorker,
        token: KvWorker,
        address: str,
        processes: Sequence[Process],
    ) -> None:
        self.transport = transport
        self.prompt = prompt
        self.token = token
        self.address = address
        self.processes = processes
        self._number = 0

    async def move(
        self, num_tokens: int, prompt_s: float = 0.0, *, layerwise: bool = True
    ) -> Moved:
        """One transfer whose prompt takes `prompt_s`; raises RuntimeError when it fails.

        Layer-wise, each layer is announced when its K/V would stand, as the worker's decoder does
        before it attends; else all are at the end.
        """
        self._number += 1
        name = f"bench-{self._number}"
        geometry = self.prompt.geometry
        blocks = range(geometry.blocks_for(num_tokens))
        self.token.open_lease(name, list(blocks), num_tokens)
        self.prompt.start_transfer(name, self.address, list(blocks), num_tokens)
        began = time.perf_counter()
        for layer in range(geometry.num_layers):
            await _until(began + prompt_s * (layer + KV_STANDS) / geometry.num_layers)
            if layerwise:
                self.prompt.layers_ready(name, layer, layer + 1)
        await _until(began + prompt_s)
        if not layerwise:
            self.prompt.layers_ready(name)
        self.prompt.finish(name)
        finished = time.perf_counter()
        ended, told = await asyncio.gather(self.prompt.expect("transfer_ended"), self._told())
        if ended.outcome != kv_pb2.OK:
            raise RuntimeError(f"a transfer failed: {ended}")
        return Moved(ended, told - finished)

    async def _told(self) -> float:
        """When the token worker was told what became of the lease."""
        await self.token.receive()
        return time.perf_counter()


async def _until(due: float) -> None:
    """Waits for a moment of `perf_counter`; others may run even when it has passed."""
    await asyncio.sleep(max(0.0, due - time.perf_counter()))


@asynccontextmanager
async def pair(
    transport: str,
    geometry: KvGeometry,
    num_tokens: int,
    directory: Path,
    certificates: Path | None = None,
) -> AsyncIterator[Pair]:
    """Starts them; pools hold a sequence of `num_tokens`. With certificates they meet in TLS."""
    processes, workers, addresses = [], [], []
    try:
        for name in ("p", "t"):
            address = f"127.0.0.1:{free_port()}"
            socket = directory / f"{transport}-{name}{'-tls' if certificates else ''}.sock"
            processes.append(_sidecar(transport, name, address, socket, certificates))
            addresses.append(address)
            worker = KvWorker(geometry, geometry.blocks_for(num_tokens), name)
            workers.append(worker)
            await _attach(worker, socket)
        prompt, token = workers
        for worker in workers:
            worker.memory[:] = bytes(len(worker.memory))  # the first touch of a page is slow
        known = [Process(process.pid) for process in processes]
        yield Pair(transport, prompt, token, addresses[1], known)
    finally:
        for worker in workers:
            worker.close()
        for process in processes:
            process.terminate()
            process.wait(START_S)


async def _attach(worker: KvWorker, socket: Path) -> None:
    async with asyncio.timeout(START_S):
        while True:
            try:
                await worker.attach(socket)
                return
            except (FileNotFoundError, ConnectionRefusedError):
                worker.hang_up()
                await asyncio.sleep(0.05)


def _sidecar(
    transport: str, name: str, address: str, socket: Path, certificates: Path | None
) -> subprocess.Popen[bytes]:
    program = str(Path(sys.executable).parent / "splitwise-sidecar")
    options = {
        "socket": socket,
        "listen": address,
        "status": f"127.0.0.1:{free_port()}",
        "role": "mixed",
        "pool": name,
        "transports": transport,
    }
    if certificates:
        options |= {"tls-dir": certificates, "tls-name": NAME}
    flags = [f"--{option}={value}" for option, value in options.items()]
    # Where UCX is to find its peer, unless somebody knows better; its bytes go by CMA here.
    environment = {"UCX_NET_DEVICES": "lo"} | os.environ
    return subprocess.Popen([program, *flags], stderr=SIDECARS_SAY, env=environment)
