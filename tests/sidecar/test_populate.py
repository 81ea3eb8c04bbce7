"""The pages of a pool are mapped before a transfer needs them, and holes stay holes."""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from splitwise_core.kv import KvGeometry
from tests.support.kv_worker import KvWorker
from tests.support.sidecar_process import SidecarProcess

GEOMETRY = KvGeometry("tiny", "float32", 2, 2, 64, 32)
NUM_BLOCKS = 512
BYTES = NUM_BLOCKS * GEOMETRY.block_bytes
MAPPED_WITHIN_S = 20.0


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[SidecarProcess]:
    started = SidecarProcess(tmp_path, "p", ["tcp"])
    started.start()
    yield started
    started.kill()


@pytest.fixture
def worker() -> Iterator[KvWorker]:
    made = KvWorker(GEOMETRY, NUM_BLOCKS)
    yield made
    made.close()


def mapped_bytes(pid: int, fd: int) -> int:
    """How much of the file behind `fd` stands in the page tables of process `pid`."""
    inode = os.fstat(fd).st_ino
    mappings = re.split(r"(?m)^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text())
    resident = [
        int(found[1]) << 10
        for mapping in mappings
        if f" {inode} " in mapping and (found := re.search(r"(?m)^Rss: +(\d+) kB", mapping))
    ]
    assert resident, "the pool is not mapped"
    return sum(resident)


async def test_a_pool_is_mapped_whole_before_anything_moves(
    sidecar: SidecarProcess, worker: KvWorker
) -> None:
    os.posix_fallocate(worker.fd, 0, BYTES)
    await sidecar.attach(worker)
    async with asyncio.timeout(MAPPED_WITHIN_S):
        while mapped_bytes(sidecar.pid, worker.fd) < BYTES:
            await asyncio.sleep(0.02)


async def test_no_memory_is_taken_that_the_worker_did_not_take(
    sidecar: SidecarProcess, worker: KvWorker
) -> None:
    await sidecar.attach(worker)
    await asyncio.sleep(0.5)
    assert os.fstat(worker.fd).st_blocks == 0
