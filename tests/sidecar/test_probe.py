"""The self-probe: it tries the real door, says what is wrong with it, and leaves nothing."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar import probe
from splitwise_sidecar.config import TRANSPORTS
from splitwise_sidecar.rehearsal import PROBE_BYTES, probe_tokens
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS, Node, Pair
from tests.support.kv_worker import KvWorker
from tests.support.ports import free_port

PROBES = "splitwise_kv_probe_seconds_count"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "FIRST_PAUSE_S", 0.05)


async def ended(node: Node) -> Any:
    return await node.worker.expect("probe_ended")


def nothing_left(node: Node) -> None:
    """No lease, no word too many, and nothing counted among the requests' transfers."""
    assert node.value("splitwise_kv_leases") == 0
    assert node.value("splitwise_kv_transfers_total") == 0
    assert node.value("splitwise_kv_transfer_bytes_total") == 0
    assert node.worker.nothing_came()


async def test_a_probe_writes_its_block_and_no_other(pair: Pair) -> None:
    node = pair.token
    node.worker.start_probe(3, node.address)
    said = await ended(node)
    assert (said.outcome, said.transport) == (kv_pb2.OK, pair.transport)
    assert (said.kv_bytes, said.probe_s > 0) == (GEOMETRY.block_bytes, True)
    assert node.value(PROBES, transport=pair.transport, outcome="ok") == 1
    nothing_left(node)
    size, memory = GEOMETRY.block_bytes, node.worker.memory
    assert any(memory[3 * size : 4 * size])
    assert not any(memory[: 3 * size])
    assert not any(memory[4 * size :])


async def test_every_transport_is_tried_since_a_peer_may_need_any(tmp_path: Path) -> None:
    node = Node(tmp_path, "n")
    await node.start()
    node.worker.start_probe(3, node.address)
    assert (await ended(node)).outcome == kv_pb2.OK
    for transport in TRANSPORTS:
        assert node.value(PROBES, transport=transport, outcome="ok") == 1
    await node.stop()


async def test_transfers_go_on_beside_a_probe(pair: Pair) -> None:
    pair.token.worker.start_probe(63, pair.token.address)
    source, target = pair.open("t")
    pair.complete("t")
    kinds = {(await pair.token.worker.receive()).WhichOneof("kind") for _ in range(2)}
    assert kinds == {"probe_ended", "lease_verified"}
    assert pair.arrived(source, target)
    assert pair.token.value("splitwise_kv_transfers_total") == 1


@asynccontextmanager
async def a_way_to(node: Node, port: int) -> AsyncIterator[None]:
    """Lets `port` lead to the node's sidecar."""

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, there = node.address.rpartition(":")
        back_reader, back_writer = await asyncio.open_connection(host, int(there))
        await asyncio.gather(pour(reader, back_writer), pour(back_reader, writer))

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async with await asyncio.start_server(lead, "127.0.0.1", port):
        yield


async def test_a_door_where_nobody_is_is_told_and_heals(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    node, port = pair.token, free_port()
    node.worker.start_probe(3, f"127.0.0.1:{port}")
    for _ in range(3):
        said = await ended(node)
        assert (said.outcome, said.transport) == (kv_pb2.PEER_LOST, pair.transport)
        assert f"127.0.0.1:{port}" in said.detail
        assert node.value("splitwise_kv_leases") == 0
    assert [record.message for record in caplog.records].count("KV probe failed") == 1
    assert "peer lost" not in [record.message for record in caplog.records]
    async with a_way_to(node, port):
        while (said := await ended(node)).outcome != kv_pb2.OK:
            pass
        assert node.value(PROBES, outcome="peer_lost") >= 3
        assert node.value(PROBES, outcome="ok") == 1
        nothing_left(node)


async def test_a_door_that_damages_what_passes_is_found_out_and_heals(proxied_pair: Pair) -> None:
    proxied_pair.proxy.flips = 2 * GEOMETRY.num_layers  # the first push, and the second one
    proxied_pair.token.worker.start_probe(3, proxied_pair.proxy.address)
    assert (await ended(proxied_pair.token)).outcome == kv_pb2.DIGEST_MISMATCH
    assert (await ended(proxied_pair.token)).outcome == kv_pb2.OK
    assert proxied_pair.token.value("splitwise_kv_damaged_layers_total") == 0, (
        "no request was damaged"
    )
    nothing_left(proxied_pair.token)


async def test_a_door_that_lets_nothing_through_is_given_up_in_time(
    proxied_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "DEADLINE_S", 0.3)
    proxied_pair.proxy.bulk_may_pass.clear()
    proxied_pair.token.worker.start_probe(3, proxied_pair.proxy.address)
    said = await ended(proxied_pair.token)
    assert said.outcome == kv_pb2.EXPIRED
    proxied_pair.proxy.bulk_may_pass.set()
    while (await ended(proxied_pair.token)).outcome != kv_pb2.OK:
        pass
    nothing_left(proxied_pair.token)


async def test_another_workers_door_is_not_ours(pair: Pair) -> None:
    pair.prompt.worker.start_probe(3, pair.token.address)
    said = await ended(pair.prompt)
    assert said.outcome == kv_pb2.DENIED
    assert "another worker's" in said.detail
    assert not any(pair.token.worker.memory[:])


async def test_a_worker_that_dies_during_its_probe_leaves_nothing(proxied_pair: Pair) -> None:
    proxied_pair.proxy.bulk_may_pass.clear()
    proxied_pair.token.worker.start_probe(3, proxied_pair.proxy.address)
    await proxied_pair.proxy.bulk_held.wait()
    await proxied_pair.token.replace_worker(KvWorker(GEOMETRY, NUM_BLOCKS, "t2"))
    proxied_pair.proxy.bulk_may_pass.set()
    proxied_pair.token.worker.start_probe(3, proxied_pair.token.address)
    assert (await ended(proxied_pair.token)).outcome == kv_pb2.OK
    nothing_left(proxied_pair.token)


async def test_a_probe_that_makes_no_sense_ends_the_connection(pair: Pair) -> None:
    pair.token.worker.start_probe(NUM_BLOCKS, pair.token.address)
    with pytest.raises(ConnectionError):
        await pair.token.worker.receive()


@pytest.mark.parametrize(
    ("geometry", "tokens"),
    [
        pytest.param(GEOMETRY, 16, id="a whole block when it is small"),
        pytest.param(KvGeometry("m", "float32", 24, 2, 64, 32768), 170, id="a part of a context"),
        pytest.param(KvGeometry("m", "float32", 128, 64, 128, 16), 1, id="one token at least"),
    ],
)
def test_a_probe_is_small(geometry: KvGeometry, tokens: int) -> None:
    assert probe_tokens(geometry) == tokens
    assert tokens == 1 or geometry.sequence_bytes(tokens) <= PROBE_BYTES


async def test_probes_leave_no_memory_and_no_descriptor(pair: Pair) -> None:
    node, port = pair.token, free_port()
    before = probes_memory()
    node.worker.start_probe(3, f"127.0.0.1:{port}")
    async with a_way_to(node, port):
        while (await ended(node)).outcome != kv_pb2.OK:
            pass
    await pair.until(lambda: probes_memory() <= before)


def probes_memory() -> int:
    """Descriptors of this process for memory of a sidecar's own; a test before may hold some."""
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum(os.path.lexists(link) and "splitwise-kv" in os.readlink(link) for link in links)
