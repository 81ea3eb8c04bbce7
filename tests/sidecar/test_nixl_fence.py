"""Writes that nobody sees: blocks that a sender over NIXL may write come back whatever it does.

Each sidecar is a process of its own, so that one can be stopped or killed in the middle of a write.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from tests.sidecar.conftest import LANES
from tests.support.kv_worker import KvWorker
from tests.support.ports import free_port

pytest.importorskip("nixl_cu13", reason="NIXL is not installed: pip install .[rdma]")

GEOMETRY = KvGeometry("long", "float16", 2, 8, 128, 16)
TOKENS = 8_000  # 33 MB a layer: there is time to stop a sender in the middle of one
BLOCKS = range(GEOMETRY.blocks_for(TOKENS))
BACK_WITHIN_S = 10.0
START_S = 60.0
_LANES_TOLD = re.compile(r'msg="UCX connected" .*lanes="?(\[.*?\])')


class Process:
    """One sidecar, its worker, and what it says."""

    def __init__(self, place: Path, name: str, lanes: str, prefix: Sequence[str] = ()) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self.worker = KvWorker(GEOMETRY, len(BLOCKS), name)
        self._status = f"127.0.0.1:{free_port()}"
        self._socket = place / f"{name}.sock"
        self.log = place / f"{name}.log"
        options = {"listen": self.address, "status": self._status, "socket": self._socket}
        options |= {"role": "mixed", "pool": name, "transports": "nixl"}
        program = Path(sys.executable).parent / "splitwise-sidecar"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*prefix, str(program), *(f"--{key}={value}" for key, value in options.items())],
                env=os.environ | {"UCX_TLS": lanes, "UCX_NET_DEVICES": "lo"},
                stdout=log,
                stderr=log,
            )

    async def attach(self) -> None:
        """Attaches the worker, once the sidecar listens; every page of its pool is there."""
        async with asyncio.timeout(START_S):
            while not self._socket.exists():
                assert self.process.poll() is None, self.log.read_text()
                await asyncio.sleep(0.05)
            await self.worker.attach(self._socket)
        self.worker.memory[:] = b"\x11" * len(self.worker.memory)

    def signal(self, number: signal.Signals) -> None:
        """To the sidecar."""
        self.process.send_signal(number)

    async def value(self, name: str) -> float:
        """A metric's sum."""
        page = await asyncio.to_thread(lambda: urlopen(f"http://{self._status}/metrics").read())
        lines = [line.split() for line in page.decode().splitlines() if line.startswith(name)]
        return sum(float(line[-1]) for line in lines)

    async def lanes(self) -> list[str]:
        """The lanes of each connection of UCX's, as the log tells them a moment later."""
        async with asyncio.timeout(START_S):
            while not (told := _LANES_TOLD.findall(self.log.read_text())):
                await asyncio.sleep(0.02)
        return told

    def stop(self) -> None:
        """Ends the sidecar and the worker."""
        self.process.kill()
        self.process.wait()
        self.worker.close()


@asynccontextmanager
async def processes(
    place: Path, lanes: str, prefix: Sequence[str] = ()
) -> AsyncIterator[tuple[Process, Process]]:
    """A prompt and a token sidecar with their workers."""
    async with AsyncExitStack() as stack:
        made = []
        for name in ("p", "t"):
            made.append(Process(place, name, lanes, prefix))
            stack.callback(made[-1].stop)
        for process in made:
            await process.attach()
        yield made[0], made[1]


@pytest.fixture(params=LANES.values(), ids=LANES)
async def pair(
    tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[tuple[Process, Process]]:
    """A pair by UCX's CMA lane, and by its TCP lane."""
    async with processes(tmp_path, request.param) as made:
        yield made


def begin(prompt: Process, token: Process, name: str, lease_ms: int = 10_000) -> None:
    """A transfer whose first layer is ready."""
    prompt.worker.memory[:] = b"\x22" * len(prompt.worker.memory)
    token.worker.open_lease(name, list(BLOCKS), TOKENS, lease_ms)
    prompt.worker.start_transfer(name, token.address, list(BLOCKS), TOKENS)
    prompt.worker.layers_ready(name, 0, 1)


async def until_bytes_arrive(token: Process) -> None:
    """Returns when the first bytes are in the token worker's memory."""
    async with asyncio.timeout(START_S):
        while token.worker.memory[0] != 0x22:
            await asyncio.sleep(0.0005)


async def given_back(token: Process, since_s: float) -> int:
    """The outcome with which the lease has ended, in time."""
    outcome = (await token.worker.expect("lease_ended")).outcome
    assert time.monotonic() - since_s < BACK_WITHIN_S
    return int(outcome)


async def test_a_sender_that_is_stopped_in_the_middle_spoils_nothing_when_it_goes_on(
    pair: tuple[Process, Process],
) -> None:
    """INV-6."""
    prompt, token = pair
    begin(prompt, token, "t")
    await until_bytes_arrive(token)
    prompt.signal(signal.SIGSTOP)
    token.worker.close_lease("t")
    assert await given_back(token, time.monotonic()) == kv_pb2.CANCELLED
    assert await token.value("splitwise_kv_forced_fences_total") == 1
    token.worker.memory[:] = b"\x33" * len(token.worker.memory)  # another sequence's now
    prompt.signal(signal.SIGCONT)
    assert (await prompt.worker.expect("transfer_ended")).outcome != kv_pb2.OK
    assert token.worker.memory[:] == b"\x33" * len(token.worker.memory)
    await moves(prompt, token)


async def test_a_sender_that_is_killed_in_the_middle_holds_no_block(
    pair: tuple[Process, Process],
) -> None:
    prompt, token = pair
    begin(prompt, token, "t", lease_ms=2_000)
    await until_bytes_arrive(token)
    killed_s = time.monotonic()
    prompt.signal(signal.SIGKILL)
    assert await given_back(token, killed_s) == kv_pb2.EXPIRED
    assert await token.value("splitwise_kv_leases") == 0


async def test_a_lease_that_ends_in_the_middle_waits_for_the_senders_word(
    pair: tuple[Process, Process],
) -> None:
    """INV-6."""
    prompt, token = pair
    begin(prompt, token, "t")
    await until_bytes_arrive(token)
    token.worker.close_lease("t")
    assert await given_back(token, time.monotonic()) == kv_pb2.CANCELLED
    token.worker.memory[:] = b"\x33" * len(token.worker.memory)
    prompt.worker.layers_ready("t", 1)
    prompt.worker.finish("t", [1])
    assert (await prompt.worker.expect("transfer_ended")).outcome == kv_pb2.UNKNOWN_TRANSFER
    assert await token.value("splitwise_kv_forced_fences_total") == 0
    assert token.worker.memory[:] == b"\x33" * len(token.worker.memory)


async def test_a_receiver_that_is_killed_in_the_middle_is_lost_at_once(
    pair: tuple[Process, Process],
) -> None:
    prompt, token = pair
    begin(prompt, token, "t")
    await until_bytes_arrive(token)
    token.signal(signal.SIGKILL)
    assert (await prompt.worker.expect("transfer_ended")).outcome == kv_pb2.PEER_LOST


async def moves(prompt: Process, token: Process) -> None:
    """One more transfer goes well."""
    begin(prompt, token, "next")
    prompt.worker.layers_ready("next", 1)
    prompt.worker.finish("next", [1])
    await token.worker.expect("lease_verified")
    assert (await prompt.worker.expect("transfer_ended")).outcome == kv_pb2.OK
    size = GEOMETRY.block_bytes
    assert token.worker.memory[: 9 * size] == prompt.worker.memory[: 9 * size]


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces of processes are root's to make")
async def test_between_two_pods_of_one_machine_ucx_has_tcp_and_says_so(tmp_path: Path) -> None:
    pod = ("unshare", "--pid", "--ipc", "--fork", "--kill-child")
    async with processes(tmp_path, LANES["nixl over cma"], pod) as (prompt, token):
        await moves(prompt, token)
        assert await prompt.lanes() == ["['tcp']"]


async def test_in_one_pod_ucx_has_cma_and_says_so(tmp_path: Path) -> None:
    async with processes(tmp_path, LANES["nixl over cma"]) as (prompt, token):
        await moves(prompt, token)
        assert await prompt.lanes() == ["['cma', 'tcp']"]
