"""KV goes from one worker's memory to another's, through two sidecars and real sockets."""

import pytest

from splitwise_core.rpc import kv_pb2
from tests.sidecar.conftest import GEOMETRY, Pair


@pytest.mark.parametrize("num_tokens", [1, 15, 16, 17, 100, 160])
async def test_every_byte_arrives_whatever_the_block_ids(pair: Pair, num_tokens: int) -> None:
    source, target = pair.open("t", num_tokens)
    pair.complete("t", [7, 9])
    verified = await pair.token.worker.expect("lease_verified")
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert pair.arrived(source, target, num_tokens)
    assert list(verified.output_tokens) == [7, 9]
    assert verified.kv_bytes == ended.kv_bytes == GEOMETRY.sequence_bytes(num_tokens)
    assert (verified.transport, ended.transport) == (pair.transport, pair.transport)
    assert (ended.outcome, ended.pushes) == (kv_pb2.OK, 1)
    assert 0 < verified.visible_s <= ended.visible_s, "its answer goes the way back"
    assert ended.transfer_s > 0


async def test_only_the_bytes_of_the_sequence_are_written(pair: Pair) -> None:
    pair.token.worker.memory[:] = b"\xee" * len(pair.token.worker.memory)
    _, target = pair.open("t", 20, target=[5, 3])
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    pair.token.worker.fill(target, 20, seed=2)
    for layer in range(GEOMETRY.num_layers):
        for offset, length in GEOMETRY.layer_runs(layer, target, 20):
            pair.token.worker.memory[offset : offset + length] = b"\xee" * length
    assert set(pair.token.worker.memory[:]) == {0xEE}


@pytest.mark.parametrize(("num_tokens", "held"), [(40, 16), (48, 32), (100, 96)])
async def test_what_the_token_worker_holds_is_not_moved_again(
    pair: Pair, num_tokens: int, held: int
) -> None:
    source = list(range(GEOMETRY.blocks_for(num_tokens)))
    target = list(range(30, 30 + len(source)))
    missing, left = target[held // 16 :], num_tokens - held
    pair.prompt.worker.fill(source, num_tokens, seed=1)
    pair.token.worker.fill(target, held, seed=2)  # its own; bytes that are not the prompt worker's
    before = pair.token.worker.read(target, held)
    pair.token.worker.open_lease("t", missing, num_tokens, held_tokens=held)
    pair.prompt.worker.start_transfer("t", pair.proxy.address, source, num_tokens)
    pair.complete("t")
    verified = await pair.token.worker.expect("lease_verified")
    ended = await pair.prompt.worker.expect("transfer_ended")
    assert verified.kv_bytes == ended.kv_bytes == GEOMETRY.sequence_bytes(left)
    assert pair.arrived(source[held // 16 :], missing, left)
    assert pair.token.worker.read(target, held) == before


@pytest.mark.parametrize("held", [40, 48, 15, 1], ids=["all", "more", "no whole block", "one"])
async def test_a_worker_that_holds_what_cannot_be_is_left(pair: Pair, held: int) -> None:
    pair.token.worker.open_lease("t", [1, 2, 3], 40, held_tokens=held)
    with pytest.raises(ConnectionError):
        await pair.token.worker.receive()


async def test_a_layer_moves_as_soon_as_it_is_ready(pair: Pair) -> None:
    source, target = pair.open("t")
    pair.prompt.worker.layers_ready("t", 0, 2)
    # The first two layers arrive before the last two exist: their bytes are what is waited for.
    want = pair.prompt.worker.read(source, 100)[:2]
    await pair.until(lambda: pair.token.worker.read(target, 100)[:2] == want)
    assert pair.token.worker.nothing_came()
    pair.prompt.worker.layers_ready("t", 2)
    pair.prompt.worker.finish("t")
    await pair.token.worker.expect("lease_verified")
    assert pair.arrived(source, target)


async def test_the_first_token_may_be_known_before_the_last_layer_is(pair: Pair) -> None:
    source, target = pair.open("t")
    pair.prompt.worker.finish("t")
    pair.prompt.worker.layers_ready("t")
    await pair.token.worker.expect("lease_verified")
    assert pair.arrived(source, target)


async def test_a_worker_that_goes_on_is_told_when_all_layers_are_over(pair: Pair) -> None:
    """It writes behind the tokens that are pushed, in their last block, all the while."""
    sender, tokens = pair.prompt.worker, 20
    source, target = [0, 1], [9, 8]
    sender.fill(source, tokens, seed=1)
    pair.token.worker.open_lease("t", target, tokens)
    sender.start_transfer("t", pair.proxy.address, source, tokens, tell_pushed=True)
    sender.layers_ready("t")
    assert (await sender.expect("transfer_pushed")).transfer_id == "t"
    behind = sender.read(source, 24)
    sender.fill(source, 24, seed=2)
    assert sender.read(source, 24) != behind
    sender.fill(source, tokens, seed=1)
    assert pair.token.worker.nothing_came()
    sender.finish("t", [7, 8, 9])
    verified = await pair.token.worker.expect("lease_verified")
    assert list(verified.output_tokens) == [7, 8, 9]
    assert (await sender.expect("transfer_ended")).outcome == kv_pb2.OK
    assert pair.arrived(source, target, tokens)


async def test_transfers_at_the_same_time_do_not_mix(pair: Pair) -> None:
    opened = {}
    for number in range(12):
        source, target = [number, 40 + number], [52 - number, 12 + number]
        opened[f"t{number}"] = pair.open(f"t{number}", 30, source, target, seed=number)
    for transfer_id in reversed(opened):
        pair.complete(transfer_id)
    verified = {(await pair.token.worker.expect("lease_verified")).transfer_id for _ in opened}
    ended = [await pair.prompt.worker.expect("transfer_ended") for _ in opened]
    assert verified == set(opened)
    assert {e.outcome for e in ended} == {kv_pb2.OK}
    assert all(pair.arrived(*blocks, 30) for blocks in opened.values())


async def test_the_prompt_worker_may_come_first(pair: Pair) -> None:
    worker = pair.prompt.worker
    worker.fill([0, 1], 30, seed=1)
    worker.start_transfer("t", pair.proxy.address, [0, 1], 30)
    pair.complete("t")
    await pair.until(lambda: pair.proxy.connections > 0)
    pair.token.worker.open_lease("t", [9, 8], 30)
    await pair.token.worker.expect("lease_verified")
    assert pair.arrived([0, 1], [9, 8], 30)


async def test_what_moved_is_counted_on_both_sides(pair: Pair) -> None:
    pair.open("t")
    pair.complete("t")
    await pair.token.worker.expect("lease_verified")
    await pair.prompt.worker.expect("transfer_ended")
    for node, direction in ((pair.prompt, "sent"), (pair.token, "received")):
        labels = {"direction": direction, "transport": pair.transport}
        count = node.value("splitwise_kv_transfer_bytes_total", **labels)
        assert count == GEOMETRY.sequence_bytes(100)
        assert node.value("splitwise_kv_transfers_total", outcome="ok", **labels) == 1
    assert pair.prompt.value("splitwise_kv_transfer_seconds_count") == 1
    assert pair.prompt.value("splitwise_kv_transfer_visible_seconds_count") == 1
    assert pair.token.value("splitwise_kv_leases") == 0
    assert pair.token.value("splitwise_kv_attached_workers") == 1


async def test_the_age_of_the_oldest_lease_is_shown(pair: Pair) -> None:
    age = "splitwise_kv_oldest_lease_seconds"
    assert pair.token.value(age) == 0
    pair.token.worker.open_lease("t", [1], 5)
    await pair.until(lambda: pair.token.value(age) > 0.1)
    pair.token.worker.close_lease("t")
    await pair.token.worker.expect("lease_ended")
    assert pair.token.value(age) == 0
