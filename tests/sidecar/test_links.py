"""Measured links: over the way of requests, without a block, and with nothing that stays."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.rpc import kv_pb2, kv_pb2_grpc
from splitwise_sidecar import links, scratch
from splitwise_sidecar.link import Sample, learned, rates
from splitwise_sidecar.rehearsal import link_tokens
from splitwise_sidecar.scratch import SLOTS
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS, Node, Pair
from tests.support.kv_worker import KvWorker
from tests.support.ports import free_port

PROBES = "splitwise_kv_link_probes_total"
OK, PEER_LOST, DENIED = kv_pb2.OK, kv_pb2.PEER_LOST, kv_pb2.DENIED
NO_CAPACITY, DIGEST_MISMATCH = kv_pb2.NO_CAPACITY, kv_pb2.DIGEST_MISMATCH


async def measured(node: Node, peer: str, max_age_s: float = 0.0) -> Any:
    """What the node's worker is told of its link to `peer`."""
    node.worker.measure_link(peer, max_age_s)
    link = await node.worker.link()
    assert link.peer == peer
    return link


def nothing_left(pair: Pair) -> None:
    """No lease, no byte in the worker's pool, nothing counted among the requests' transfers."""
    for node in (pair.prompt, pair.token):
        assert node.value("splitwise_kv_leases") == 0
        assert node.value("splitwise_kv_transfers_total") == 0
        assert node.value("splitwise_kv_transfer_bytes_total") == 0
        assert node.worker.nothing_came()
        assert not node.worker.links
        assert not any(node.worker.memory[:])


# ---- the prompt side ----


async def test_a_link_is_measured_over_the_way_of_requests_and_without_a_block(pair: Pair) -> None:
    link = await measured(pair.prompt, pair.token.address)
    assert (link.outcome, link.transport) == (OK, pair.transport)
    assert link.latency_s >= 0  # 0 where the larger transfer was as quick as the smaller
    assert link.bytes_per_s > 0
    assert link.measured_unix_ms > 0
    assert pair.prompt.value(PROBES, transport=pair.transport, outcome="ok") == 1
    nothing_left(pair)


async def test_a_slow_link_is_measured_slower(proxied_pair: Pair) -> None:
    direct = await measured(proxied_pair.prompt, proxied_pair.token.address)
    proxied_pair.proxy.bytes_per_s = 16e6
    throttled = await measured(proxied_pair.prompt, proxied_pair.proxy.address)
    assert throttled.bytes_per_s < 2 * 16e6
    assert throttled.bytes_per_s < direct.bytes_per_s


async def test_who_asks_again_soon_is_told_what_is_known(pair: Pair) -> None:
    first = await measured(pair.prompt, pair.token.address)
    again = await measured(pair.prompt, pair.token.address, max_age_s=60)
    assert again == first
    assert pair.prompt.value(PROBES) == 1


async def test_many_who_ask_at_once_share_a_measurement(pair: Pair) -> None:
    for _ in range(5):
        pair.prompt.worker.measure_link(pair.token.address)
    await pair.prompt.worker.link()
    assert pair.prompt.value(PROBES) == 1
    assert pair.prompt.worker.nothing_came()


async def test_a_peer_that_is_not_there_is_a_failing_link_with_a_reason(pair: Pair) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    link = await measured(pair.prompt, nowhere)
    assert (link.outcome, link.bytes_per_s) == (PEER_LOST, 0)
    assert nowhere in link.detail
    assert pair.prompt.value(PROBES, outcome="peer_lost") == 1
    nothing_left(pair)


async def test_a_link_that_damages_what_passes_fails_and_heals(proxied_pair: Pair) -> None:
    proxied_pair.proxy.flips = 2 * GEOMETRY.num_layers  # the first push, and the second one
    link = await measured(proxied_pair.prompt, proxied_pair.proxy.address)
    assert link.outcome == DIGEST_MISMATCH
    assert (await measured(proxied_pair.prompt, proxied_pair.proxy.address)).outcome == OK
    nothing_left(proxied_pair)


async def test_a_link_that_lets_nothing_through_is_given_up_in_time(
    proxied_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "DEADLINE_S", 0.3)
    proxied_pair.proxy.bulk_may_pass.clear()
    link = await measured(proxied_pair.prompt, proxied_pair.proxy.address)
    assert link.outcome == kv_pb2.EXPIRED
    proxied_pair.proxy.bulk_may_pass.set()
    await proxied_pair.until(lambda: proxied_pair.token.value("splitwise_kv_leases") == 0)


async def test_a_worker_of_another_shape_is_a_failing_link(pair: Pair) -> None:
    other = KvWorker(type(GEOMETRY)("other", "float16", 4, 2, 64, 16), NUM_BLOCKS, "t2")
    await pair.token.replace_worker(other)
    link = await measured(pair.prompt, pair.token.address)
    assert link.outcome == kv_pb2.GEOMETRY_MISMATCH


async def test_no_probe_goes_beside_a_requests_kv_and_its_transfer_counts(pair: Pair) -> None:
    await measured(pair.prompt, pair.token.address)
    source, target = pair.open("t", peer=pair.token.address)
    pair.prompt.worker.measure_link(pair.token.address)
    pair.complete("t")
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == OK
    assert pair.prompt.worker.nothing_came()
    assert not pair.prompt.worker.links, "told a moment ago, and nothing has changed"
    assert pair.prompt.value(PROBES) == 1
    assert pair.arrived(source, target)


async def test_a_requests_transfer_that_the_link_broke_is_told_at_once(pair: Pair) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    pair.open("t", peer=nowhere)
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == PEER_LOST
    assert (await pair.prompt.worker.link()).outcome == PEER_LOST


async def test_a_worker_that_dies_during_a_measurement_leaves_nothing(proxied_pair: Pair) -> None:
    proxied_pair.proxy.bulk_may_pass.clear()
    proxied_pair.prompt.worker.measure_link(proxied_pair.proxy.address)
    await proxied_pair.proxy.bulk_held.wait()
    await proxied_pair.prompt.replace_worker(KvWorker(GEOMETRY, NUM_BLOCKS, "p2"))
    proxied_pair.proxy.bulk_may_pass.set()
    assert (await measured(proxied_pair.prompt, proxied_pair.token.address)).outcome == OK
    await proxied_pair.until(lambda: proxied_pair.token.value("splitwise_kv_leases") == 0)
    nothing_left(proxied_pair)


# ---- the token side ----


@asynccontextmanager
async def stub_of(node: Node) -> AsyncIterator[Any]:
    """What any process that may connect can call."""
    async with grpc.aio.insecure_channel(node.address) as channel:
        yield kv_pb2_grpc.KvPeerStub(channel)


async def opened(stub: Any, node: Node, tokens: int = 1) -> Any:
    return await stub.OpenProbe(
        kv_pb2.OpenProbeRequest(
            epoch=node.worker.epoch,
            num_tokens=tokens,
            claim=kv_pb2.Claim(caller="x", write_token=b"w" * 16),
        ),
        timeout=5,
    )


@pytest.mark.parametrize("tokens", [0, link_tokens(GEOMETRY) + 1], ids=["none", "too many"])
async def test_a_probe_that_scratch_memory_does_not_hold_is_refused(
    pair: Pair, tokens: int
) -> None:
    async with stub_of(pair.token) as stub:
        assert (await opened(stub, pair.token, tokens)).outcome == DENIED


async def test_scratch_memory_is_bounded_and_given_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "LEASE_MS", 300)
    async with stub_of(pair.token) as stub:
        replies = [await opened(stub, pair.token) for _ in range(SLOTS + 1)]
        assert [reply.outcome for reply in replies] == [OK] * SLOTS + [NO_CAPACITY]
        assert len({reply.transfer_id for reply in replies[:SLOTS]}) == SLOTS

        async def is_free() -> bool:
            return bool((await opened(stub, pair.token)).outcome == OK)

        async with asyncio.timeout(10):
            while not await is_free():
                await asyncio.sleep(0.05)


async def test_who_renews_a_probe_for_ever_does_not_hold_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "HELD_S", 0.5)
    async with stub_of(pair.token) as stub:
        transfer_id = (await opened(stub, pair.token)).transfer_id
        epoch, token = pair.token.worker.epoch, b"w" * 16
        claim = kv_pb2.Claim(caller="x", write_token=token)
        reserve = kv_pb2.ReserveRequest(
            transfer_id=transfer_id, epoch=epoch, num_tokens=1, claim=claim
        )
        assert (await stub.Reserve(reserve, timeout=5)).outcome == kv_pb2.OK
        renew = kv_pb2.RenewRequest(epoch=epoch, transfer_ids=[transfer_id], write_tokens=[token])
        async with asyncio.timeout(10):
            while not (await stub.Renew(renew, timeout=5)).unknown:
                await asyncio.sleep(0.02)


async def test_a_peer_without_time_for_a_probe_is_no_failing_link(pair: Pair) -> None:
    async with stub_of(pair.token) as stub:
        for _ in range(SLOTS):
            await opened(stub, pair.token)
        pair.prompt.worker.measure_link(pair.token.address)
        await pair.until(lambda: pair.prompt.value(PROBES, outcome="no_capacity") == 1)
    assert pair.prompt.worker.nothing_came()


async def test_a_sidecar_that_drains_takes_no_probes(pair: Pair) -> None:
    draining = asyncio.create_task(pair.token.sidecar.drain(5))
    await draining
    async with stub_of(pair.token) as stub:
        assert (await opened(stub, pair.token)).outcome == kv_pb2.DRAINING


# ---- what times say ----


@pytest.mark.parametrize(
    ("small", "large", "expected"),
    [
        pytest.param([(1, 0.1)], [(101, 0.2)], (0.1, 1000.0), id="what is more than latency"),
        pytest.param(
            [(1, 0.3), (1, 0.1)], [(101, 0.9), (101, 0.2)], (0.1, 1000.0), id="the quickest counts"
        ),
        pytest.param([(100, 0.1)], [(100, 0.1)], (0.0, 1000.0), id="one size alone is all rate"),
        pytest.param([(1, 0.2)], [(100, 0.1)], (0.0, 1000.0), id="noise is no latency"),
    ],
)
def test_rates(
    small: Sequence[tuple[int, float]],
    large: Sequence[tuple[int, float]],
    expected: tuple[float, float],
) -> None:
    found = rates([Sample(*s) for s in small], [Sample(*s) for s in large])
    assert found == pytest.approx(expected)


times = st.floats(0, 100)


@given(st.lists(times, min_size=1, max_size=4), st.lists(times, min_size=1, max_size=4))
def test_rates_are_numbers_to_divide_by(small: list[float], large: list[float]) -> None:
    latency_s, bytes_per_s = rates(
        [Sample(1 << 10, s) for s in small], [Sample(1 << 22, s) for s in large]
    )
    assert latency_s >= 0
    assert bytes_per_s > 0


def ended(**fields: Any) -> kv_pb2.TransferEnded:
    known = {"outcome": OK, "transport": "tcp", "kv_bytes": 8 << 20, "transfer_s": 1.0}
    return kv_pb2.TransferEnded(**{**known, "visible_s": 1.0, **fields})


KNOWN = kv_pb2.Link(peer="t", outcome=OK, transport="tcp", latency_s=0.0, bytes_per_s=16 << 20)
FAILING = kv_pb2.Link(peer="t", outcome=PEER_LOST)
MIB_PER_S = 1 << 20


@pytest.mark.parametrize(
    ("before", "transfer", "mib_per_s"),
    [
        pytest.param(KNOWN, ended(), 12, id="one that the request waited for moves the rate"),
        pytest.param(
            KNOWN, ended(visible_s=0.1), 16, id="one at the prompt's pace is no sign of slowness"
        ),
        pytest.param(
            KNOWN, ended(visible_s=0.1, transfer_s=0.1), 48, id="but it may be one of speed"
        ),
        pytest.param(KNOWN, ended(kv_bytes=4096), 16, id="a small one says only that it works"),
        pytest.param(FAILING, ended(), 0, id="one that arrives heals, and is measured anew"),
        pytest.param(KNOWN, ended(transport="grpc"), 0, id="another way has another rate"),
    ],
)
def test_a_requests_transfer_teaches(
    before: kv_pb2.Link, transfer: kv_pb2.TransferEnded, mib_per_s: float
) -> None:
    link = learned(before, "t", transfer, 5)
    assert link is not None
    assert (link.outcome, link.measured_unix_ms) == (OK, 5)
    assert link.bytes_per_s == mib_per_s * MIB_PER_S


def test_a_request_that_ends_for_its_own_reasons_says_nothing_of_the_link() -> None:
    for outcome in (kv_pb2.CANCELLED, kv_pb2.EXPIRED, kv_pb2.UNKNOWN_TRANSFER):
        assert learned(KNOWN, "t", ended(outcome=outcome), 5) is None
    assert learned(None, "t", ended(), 5) is None, "nothing to compare with: it is measured soon"
