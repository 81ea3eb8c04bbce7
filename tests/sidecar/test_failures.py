"""Whatever goes wrong, both workers hear of it once, and the token worker's memory is fenced."""

import time

import pytest

from splitwise_core.kv import KvGeometry
from splitwise_core.rpc import kv_pb2
from tests.sidecar.conftest import GEOMETRY, NUM_BLOCKS, Node, Pair
from tests.support.kv_worker import KvWorker


async def ended_everywhere(pair: Pair, prompt: int, token: int) -> None:
    """Both workers hear these outcomes, and nothing is left."""
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == prompt
    assert (await pair.token.worker.expect("lease_ended")).outcome == token
    nothing_left(pair)


def nothing_left(pair: Pair) -> None:
    """No lease is counted, and no worker has a message it did not read."""
    assert pair.token.value("splitwise_kv_leases") == 0
    assert pair.prompt.worker.nothing_came()
    assert pair.token.worker.nothing_came()


# ---- damage ----


async def test_damaged_bytes_are_sent_again_and_arrive(proxied_pair: Pair) -> None:
    proxied_pair.proxy.flips = 1
    source, target = proxied_pair.open("t")
    proxied_pair.complete("t")
    await proxied_pair.token.worker.expect("lease_verified")
    ended = await proxied_pair.prompt.worker.expect("transfer_ended")
    assert proxied_pair.arrived(source, target)
    assert (ended.outcome, ended.pushes) == (kv_pb2.OK, 2)
    assert ended.kv_bytes == GEOMETRY.sequence_bytes(100)
    assert proxied_pair.proxy.damaged == 1
    assert proxied_pair.prompt.value("splitwise_kv_repushes_total") == 1
    assert proxied_pair.token.value("splitwise_kv_damaged_layers_total") == 1
    # Only the damaged layer went again.
    sent = proxied_pair.prompt.value("splitwise_kv_transfer_bytes_total")
    assert sent == GEOMETRY.sequence_bytes(100) * (1 + 1 / GEOMETRY.num_layers)


async def test_bytes_that_always_arrive_damaged_are_never_decoded(proxied_pair: Pair) -> None:
    proxied_pair.proxy.flips = 1000
    proxied_pair.open("t")
    proxied_pair.complete("t")
    await ended_everywhere(proxied_pair, kv_pb2.DIGEST_MISMATCH, kv_pb2.DIGEST_MISMATCH)
    assert proxied_pair.token.value("splitwise_kv_transfers_total", outcome="digest_mismatch") == 1


# ---- ends that someone wants ----


async def test_a_withdrawn_transfer_fences_the_lease(pair: Pair) -> None:
    pair.open("t")
    pair.prompt.worker.layers_ready("t", 0, 2)
    await pair.until(lambda: pair.token.value("splitwise_kv_leases", state="arriving") == 1)
    pair.prompt.worker.withdraw("t")
    await ended_everywhere(pair, kv_pb2.CANCELLED, kv_pb2.CANCELLED)


async def test_a_transfer_may_be_withdrawn_in_the_moment_it_starts(pair: Pair) -> None:
    worker = pair.prompt.worker
    worker.start_transfer("t", pair.proxy.address, [0], 5)
    worker.withdraw("t")
    assert (await worker.expect("transfer_ended")).outcome == kv_pb2.CANCELLED


async def test_a_lease_that_its_worker_closes_ends_the_transfer(pair: Pair) -> None:
    pair.open("t")
    pair.token.worker.close_lease("t")
    assert (await pair.token.worker.expect("lease_ended")).outcome == kv_pb2.CANCELLED
    pair.complete("t")
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.UNKNOWN_TRANSFER
    nothing_left(pair)


async def test_bytes_that_come_after_the_end_of_a_lease_are_dropped_and_counted(
    proxied_pair: Pair,
) -> None:
    """INV-6."""
    _, target = proxied_pair.open("t")
    proxied_pair.proxy.bulk_may_pass.clear()
    proxied_pair.prompt.worker.layers_ready("t")
    await proxied_pair.proxy.bulk_held.wait()
    proxied_pair.token.worker.close_lease("t")
    await proxied_pair.token.worker.expect("lease_ended")
    proxied_pair.token.worker.fill(target, 100, seed=5)  # the blocks are another sequence's now
    others = proxied_pair.token.worker.read(target, 100)
    proxied_pair.proxy.bulk_may_pass.set()
    ended = await proxied_pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.UNKNOWN_TRANSFER
    assert proxied_pair.token.value("splitwise_kv_late_writes_total") >= 1
    assert proxied_pair.token.worker.read(target, 100) == others


async def test_the_end_of_something_that_ended_is_no_error(pair: Pair) -> None:
    pair.open("t")
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    await pair.prompt.worker.expect("transfer_ended")
    pair.token.worker.close_lease("t")
    pair.prompt.worker.withdraw("t")
    source, target = pair.open("u")
    pair.complete("u")
    await pair.token.worker.expect("lease_verified")
    assert pair.arrived(source, target)


# ---- time ----


async def test_a_lease_that_nobody_claims_expires(pair: Pair) -> None:
    pair.token.worker.open_lease("t", [1], 5, lease_ms=50)
    assert (await pair.token.worker.expect("lease_ended")).outcome == kv_pb2.EXPIRED
    nothing_left(pair)


async def test_a_claimed_lease_lives_while_its_prompt_waits(pair: Pair) -> None:
    source, target = pair.open("t", lease_ms=1600)
    pair.token.worker.open_lease("other", [1], 5, lease_ms=2000)
    # The unclaimed one has more time, and still ends first.
    assert (await pair.token.worker.expect("lease_ended")).transfer_id == "other"
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    assert pair.arrived(source, target)


async def test_a_request_past_its_deadline_ends_on_both_sides(pair: Pair) -> None:
    pair.token.worker.open_lease("t", [1], 5)
    deadline = int(time.time() * 1000) + 300
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [1], 5, deadline)
    await ended_everywhere(pair, kv_pb2.EXPIRED, kv_pb2.EXPIRED)


# ---- disagreement ----


async def test_pools_of_different_shapes_exchange_nothing(pair: Pair) -> None:
    other = KvGeometry("tiny", "bfloat16", 4, 2, 64, 16)
    await pair.prompt.replace_worker(KvWorker(other, NUM_BLOCKS, "p2"))
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [1], 5)
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.GEOMETRY_MISMATCH
    assert "p2" in ended.detail


async def test_a_lease_for_another_number_of_tokens_is_not_given(pair: Pair) -> None:
    pair.token.worker.open_lease("t", [1], 6)
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [1], 5)
    await ended_everywhere(pair, kv_pb2.DENIED, kv_pb2.DENIED)


async def test_a_transfer_that_was_never_opened_is_unknown(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitwise_sidecar.transfer.RESERVE_WAIT_MS", 50)
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [1], 5)
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.UNKNOWN_TRANSFER


async def test_a_restarted_token_worker_is_met_anew(pair: Pair) -> None:
    pair.open("t")
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    await pair.prompt.worker.expect("transfer_ended")
    await pair.token.replace_worker(KvWorker(GEOMETRY, NUM_BLOCKS, "t2"))
    source, target = pair.open("u")
    pair.complete("u")
    await pair.token.worker.expect("lease_verified")
    assert pair.arrived(source, target)


async def test_a_lease_does_not_outlive_its_worker(pair: Pair) -> None:
    pair.open("t")
    pair.prompt.worker.layers_ready("t", 0, 1)
    await pair.until(lambda: pair.token.value("splitwise_kv_leases", state="arriving") == 1)
    await pair.token.replace_worker(KvWorker(GEOMETRY, NUM_BLOCKS, "t2"))
    pair.token.worker.open_lease("t", [1, 2, 3, 4, 5, 6, 7], 100)  # the same id, by chance
    empty = pair.token.worker.memory[:]
    pair.complete("t")
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome in (kv_pb2.STALE_EPOCH, kv_pb2.UNKNOWN_TRANSFER)
    assert pair.token.worker.memory[:] == empty
    await pair.until(lambda: pair.token.value("splitwise_kv_leases") == 1)


# ---- loss ----


async def test_a_prompt_worker_that_dies_frees_the_lease(pair: Pair) -> None:
    pair.open("t")
    pair.prompt.worker.layers_ready("t", 0, 2)
    await pair.until(lambda: pair.token.value("splitwise_kv_leases", state="arriving") == 1)
    pair.prompt.worker.hang_up()
    assert (await pair.token.worker.expect("lease_ended")).outcome == kv_pb2.PEER_LOST
    nothing_left_at(pair.token)
    await pair.until(lambda: pair.prompt.value("splitwise_kv_attached_workers") == 0)


def nothing_left_at(node: Node) -> None:
    """No lease is counted, and the worker has read all its messages."""
    assert node.value("splitwise_kv_leases") == 0
    assert node.worker.nothing_came()


async def test_a_peer_that_falls_silent_is_lost_within_three_seconds(proxied_pair: Pair) -> None:
    proxied_pair.open("t")
    await proxied_pair.until(
        lambda: proxied_pair.token.value("splitwise_kv_leases", state="reserved") == 1
    )
    proxied_pair.proxy.may_pass.clear()
    silent = time.monotonic()
    ended = await proxied_pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.PEER_LOST
    assert time.monotonic() - silent < 3.0


@pytest.mark.parametrize(
    "peer", ["", "token-1", ":50052", "token-1:0", "token-1:70000", "t:3\x995"]
)
async def test_what_is_no_address_is_not_dialed(
    pair: Pair, caplog: pytest.LogCaptureFixture, peer: str
) -> None:
    pair.prompt.worker.start_transfer("t", peer, [1], 5)
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.INVALID
    assert "is host:port" in ended.detail
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_peer_that_is_not_there_is_lost_at_once(pair: Pair) -> None:
    await pair.proxy.stop()
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [1], 5)
    assert (await pair.prompt.worker.expect("transfer_ended")).outcome == kv_pb2.PEER_LOST


async def test_a_sidecar_without_a_worker_takes_no_transfer(pair: Pair) -> None:
    pair.token.worker.hang_up()
    await pair.until(lambda: pair.token.value("splitwise_kv_attached_workers") == 0)
    pair.prompt.worker.start_transfer("t", pair.proxy.address, [1], 5)
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert ended.outcome == kv_pb2.PEER_LOST
    assert "no worker" in ended.detail


async def test_a_slow_peer_does_not_hold_up_another(proxied_pair: Pair) -> None:
    proxied_pair.proxy.bulk_may_pass.clear()
    proxied_pair.open("slow", target=[20, 21, 22, 23, 24, 25, 26])
    proxied_pair.prompt.worker.layers_ready("slow")
    await proxied_pair.proxy.bulk_held.wait()
    # The same sidecar under its own address is another peer.
    source, target = proxied_pair.open("quick", peer=proxied_pair.token.address)
    proxied_pair.complete("quick")
    assert (await proxied_pair.token.worker.expect("lease_verified")).transfer_id == "quick"
    assert proxied_pair.arrived(source, target)
    proxied_pair.proxy.bulk_may_pass.set()
    proxied_pair.prompt.worker.finish("slow")
    assert (await proxied_pair.token.worker.expect("lease_verified")).transfer_id == "slow"
