"""A machine that has nothing left to give: refused with the reason, and as before afterwards."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from psutil import Process

from splitwise_core.rpc import kv_pb2
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS
from tests.support.kv_worker import ANSWER_WITHIN_S, KvWorker
from tests.support.sidecar_process import SidecarProcess


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[SidecarProcess]:
    """One that has had a worker: whatever it makes once is made."""
    made = SidecarProcess(tmp_path, "s", ["shm", "tcp", "grpc"])
    made.start()
    try:
        worker = KvWorker(GEOMETRY, NUM_BLOCKS)
        await made.attach(worker)
        await until(lambda: made.value("splitwise_kv_attached_workers"), 1)
        worker.close()
        await until(lambda: made.value("splitwise_kv_attached_workers"), 0)
        yield made
    finally:
        made.kill()


async def until(read: Callable[[], Awaitable[float]], wanted: float) -> None:
    async with asyncio.timeout(ANSWER_WITHIN_S):
        while await read() != wanted:
            await asyncio.sleep(0.02)


async def a_good_probe(sidecar: SidecarProcess) -> None:
    """A worker attaches, and KV moves by every transport and is verified."""
    worker = KvWorker(GEOMETRY, NUM_BLOCKS)
    await sidecar.attach(worker)
    worker.start_probe(3, sidecar.address)
    assert (await worker.expect("probe_ended")).outcome == kv_pb2.OK
    worker.close()


async def test_a_pool_that_has_no_room_is_refused_with_no_capacity(
    sidecar: SidecarProcess,
) -> None:
    sidecar.limit(resource.RLIMIT_AS, Process(sidecar.pid).memory_info().vms + (1 << 20))
    large = KvWorker(GEOMETRY, 4096)
    attached = await large.attach(sidecar.socket)
    assert (attached.outcome, attached.epoch) == (kv_pb2.NO_CAPACITY, 0)
    with pytest.raises(ConnectionError):
        await large.receive()
    large.close()
    sidecar.unlimit(resource.RLIMIT_AS)
    await a_good_probe(sidecar)


async def test_a_peers_pool_that_finds_no_room_costs_that_transfer_alone(
    sidecar: SidecarProcess,
) -> None:
    """Over shm, from the sidecar to itself: it maps the pool once more to read it."""
    worker = KvWorker(GEOMETRY, NUM_BLOCKS)
    await sidecar.attach(worker)
    sidecar.limit(resource.RLIMIT_AS, Process(sidecar.pid).memory_info().vms + (1 << 20))
    begin_transfer(sidecar, worker, "t")
    ends = {await end_of(worker), await end_of(worker)}
    assert ends == {("transfer_ended", kv_pb2.PEER_LOST), ("lease_ended", kv_pb2.PEER_LOST)}
    assert await sidecar.value("splitwise_kv_leases") == 0
    sidecar.unlimit(resource.RLIMIT_AS)
    begin_transfer(sidecar, worker, "next")
    assert (await worker.expect("lease_verified")).transport == "shm"
    assert (await worker.expect("transfer_ended")).outcome == kv_pb2.OK
    worker.close()


def begin_transfer(sidecar: SidecarProcess, worker: KvWorker, name: str) -> None:
    worker.fill([1, 2], 20, seed=1)
    worker.open_lease(name, [3, 4], 20)
    worker.start_transfer(name, sidecar.address, [1, 2], 20)
    worker.layers_ready(name)
    worker.finish(name)


async def end_of(worker: KvWorker) -> tuple[str, int]:
    message = await worker.receive()
    kind = str(message.WhichOneof("kind"))
    return kind, getattr(message, kind).outcome


async def test_without_a_descriptor_for_the_pool_the_worker_is_refused(
    sidecar: SidecarProcess,
) -> None:
    """Accepting takes one, and the pool's memfd another: neither may leave a mapping behind."""
    before = mappings(sidecar)
    for spare in (1, 2):
        sidecar.limit(resource.RLIMIT_NOFILE, next_descriptor(sidecar) + spare)
        worker = KvWorker(GEOMETRY, NUM_BLOCKS)
        with pytest.raises(ConnectionError):
            await refused_attach(worker, sidecar)
        worker.close()
        sidecar.unlimit(resource.RLIMIT_NOFILE)
        assert mappings(sidecar) == before
    await a_good_probe(sidecar)


async def refused_attach(worker: KvWorker, sidecar: SidecarProcess) -> None:
    """Raises ConnectionError when the sidecar hangs up, whether it said why or could not."""
    attached = await worker.attach(sidecar.socket)
    assert attached.outcome == kv_pb2.NO_CAPACITY
    await worker.receive()


async def test_who_cannot_be_accepted_waits_and_costs_no_processor(
    sidecar: SidecarProcess,
) -> None:
    sidecar.limit(resource.RLIMIT_NOFILE, next_descriptor(sidecar))
    worker = KvWorker(GEOMETRY, NUM_BLOCKS)
    attaching = asyncio.create_task(worker.attach(sidecar.socket))
    stranger = socket.create_connection(("127.0.0.1", sidecar.tcp_port))
    await until_logged(sidecar, "no connection can be taken", 4)  # both doors, twice
    lines = sidecar.program.log.read_text().count("no connection can be taken")
    assert lines < 100, "it asks again and again"
    sidecar.unlimit(resource.RLIMIT_NOFILE)
    assert (await attaching).outcome == kv_pb2.OK
    stranger.close()
    worker.close()
    await a_good_probe(sidecar)


async def until_logged(sidecar: SidecarProcess, words: str, times: int) -> None:
    async with asyncio.timeout(ANSWER_WITHIN_S):
        while sidecar.program.log.read_text().count(words) < times:
            await asyncio.sleep(0.02)


def mappings(sidecar: SidecarProcess) -> int:
    """How many pools it has mapped."""
    return Path(f"/proc/{sidecar.pid}/maps").read_text().count("memfd:test-kv")


def next_descriptor(sidecar: SidecarProcess) -> int:
    """The lowest number that no descriptor of it has: a limit of this takes the next one away.

    Those above stay; numbers are given out from below.
    """
    taken = {int(number) for number in os.listdir(f"/proc/{sidecar.pid}/fd")}
    return min(set(range(len(taken) + 1)) - taken)
