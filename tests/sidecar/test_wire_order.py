"""Bytes that come twice, in another order, in part, for another epoch or with a bit turned.

A hand-written peer says them over the public formats. Commit is believed only when the memory of
the token worker is what the digests say (INV-3), whatever was written before.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splitwise_core.capability import Refusal
from splitwise_core.rpc import kv_pb2
from splitwise_sidecar.peer_service import MAX_OUTPUT_TOKENS
from splitwise_sidecar.refusal import label
from tests.sidecar.conftest import Node
from tests.sidecar.hand import LAYERS, WHOLE, Hand, Piece


@pytest.fixture(params=["called", "behind"], ids=["commit called", "commit behind bytes"])
async def hand(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Hand]:
    """A hand at the doors of a sidecar; what it says of a Commit holds whichever way that comes."""
    async with AsyncExitStack() as stack:
        node = Node(tmp_path, "t")
        stack.push_async_callback(node.stop)
        await node.start()
        made = Hand(node, request.param)
        stack.push_async_callback(made.close)
        await made.reserve()
        yield made


VERIFIED = [
    pytest.param(WHOLE, id="each layer once"),
    pytest.param(WHOLE[::-1], id="layers in another order"),
    pytest.param((*WHOLE, *WHOLE), id="everything twice"),
    pytest.param((replace(WHOLE[0], flipped=True), *WHOLE), id="damaged first, and then as meant"),
    pytest.param((Piece(0, 0, 500), *WHOLE), id="half of a layer, and then all of it"),
]
DAMAGED = [
    pytest.param(WHOLE[1:], id="a layer is missing"),
    pytest.param((*WHOLE[:3], Piece(3, 0, 500)), id="half of a layer is missing"),
    pytest.param((*WHOLE[:3], Piece(3, 0, 999)), id="the end of a layer is missing"),
    pytest.param((*WHOLE[:3], replace(WHOLE[3], flipped=True)), id="a bit has turned"),
    pytest.param((*WHOLE, replace(WHOLE[0], flipped=True)), id="as meant, and then damaged"),
    pytest.param((*WHOLE, Piece(0, 0, 500)), id="as meant, and then half of it again"),
]
REFUSED = [
    pytest.param((replace(WHOLE[0], epoch_off_by=1),), kv_pb2.STALE_EPOCH, id="a stale epoch"),
    pytest.param((Piece(LAYERS),), kv_pb2.DENIED, id="a layer too many"),
    pytest.param((replace(WHOLE[0], id="u"),), kv_pb2.UNKNOWN_TRANSFER, id="another transfer"),
    pytest.param((WHOLE[0], replace(WHOLE[1], id="u")), kv_pb2.INVALID, id="two transfers"),
]
HALVES = (Piece(0, 0, 500), Piece(0, 500))
ONLY_GRPC = [
    pytest.param((HALVES[0], HALVES[0]), kv_pb2.OK, id="a chunk twice, from 0"),
    pytest.param(
        (Piece(0, 0, 500), Piece(0, 500), Piece(0, 500)), kv_pb2.DENIED, id="a chunk twice"
    ),
    pytest.param(HALVES[::-1], kv_pb2.DENIED, id="chunks in another order"),
    pytest.param((Piece(0, 0, 400), Piece(0, 500)), kv_pb2.DENIED, id="a gap"),
    pytest.param((Piece(0, 0, 500), Piece(0, 400)), kv_pb2.DENIED, id="chunks that overlap"),
]


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
@pytest.mark.parametrize("pieces", VERIFIED)
async def test_bytes_that_are_there_in_the_end_are_verified(
    hand: Hand, pieces: Sequence[Piece], transport: str
) -> None:
    assert await hand.push(transport, pieces) == kv_pb2.OK
    assert (await hand.commit()).outcome == kv_pb2.OK
    await hand.node.worker.expect("lease_verified")
    assert hand.arrived()


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
@pytest.mark.parametrize("pieces", DAMAGED)
async def test_bytes_that_are_not_as_meant_are_sent_again_and_then_given_up(
    hand: Hand, pieces: Sequence[Piece], transport: str
) -> None:
    assert await hand.push(transport, pieces) == kv_pb2.OK
    reply = await hand.commit()
    assert (reply.outcome, len(reply.bad_layers)) == (kv_pb2.DIGEST_MISMATCH, 1)
    assert hand.node.worker.nothing_came()
    assert await hand.push(transport, pieces[-1:]) == kv_pb2.OK  # as bad as before
    assert (await hand.commit()).outcome == kv_pb2.DIGEST_MISMATCH
    ended = await hand.node.worker.expect("lease_ended")
    assert ended.outcome == kv_pb2.DIGEST_MISMATCH
    assert hand.node.value("splitwise_kv_transfers_total", outcome="digest_mismatch") == 1


@pytest.mark.parametrize(
    ("transport", "pieces", "outcome"),
    [
        pytest.param(transport, *case.values, id=f"{transport}-{case.id}")
        for transport, cases in (("tcp", REFUSED), ("grpc", [*REFUSED, *ONLY_GRPC]))
        for case in cases
    ],
)
async def test_a_refused_piece_spoils_nothing(
    hand: Hand, transport: str, pieces: Sequence[Piece], outcome: int
) -> None:
    assert await hand.push(transport, pieces) == outcome
    if outcome in (kv_pb2.STALE_EPOCH, kv_pb2.UNKNOWN_TRANSFER):
        assert hand.node.value("splitwise_kv_late_writes_total") == 1
    assert await hand.push(transport, WHOLE) == kv_pb2.OK
    assert (await hand.commit()).outcome == kv_pb2.OK
    await hand.node.worker.expect("lease_verified")
    assert hand.arrived()


async def test_a_stale_epoch_commits_and_aborts_nothing(hand: Hand) -> None:
    assert await hand.push("tcp", WHOLE) == kv_pb2.OK
    assert (await hand.commit(epoch=hand.epoch + 1)).outcome == kv_pb2.STALE_EPOCH
    assert hand.node.worker.nothing_came()
    assert (await hand.commit()).outcome == kv_pb2.OK
    await hand.node.worker.expect("lease_verified")


STRANGERS = [
    pytest.param({"write_token": b"s" * 16}, "denied", id="with another write token"),
    pytest.param({"write_token": b""}, "denied", id="without a write token"),
    pytest.param({"transfer_id": "u"}, "unknown_transfer", id="of a lease that nobody opened"),
    pytest.param({"output_tokens": [1] * (MAX_OUTPUT_TOKENS + 1)}, "invalid", id="of many tokens"),
    pytest.param({"digests": []}, "invalid", id="without digests"),
    pytest.param({"waited_s": float("nan")}, "invalid", id="of what waited for no number"),
    pytest.param({"waited_s": -1.0}, "invalid", id="of what waits from tomorrow on"),
]


@pytest.mark.parametrize(("changed", "outcome"), STRANGERS)
async def test_a_commit_that_has_no_right_to_it_changes_nothing(
    hand: Hand, changed: dict[str, Any], outcome: str
) -> None:
    assert await hand.push("tcp", WHOLE) == kv_pb2.OK
    assert label((await hand.commit(**changed)).outcome) == outcome
    is_strange = "write_token" in changed
    not_holder = {"refusal": Refusal.NOT_HOLDER.value}
    assert hand.node.value("splitwise_kv_refused_calls_total", **not_holder) == is_strange
    senseless = hand.node.value("splitwise_kv_transfers_total", outcome="invalid")
    assert senseless == (outcome == "invalid")
    assert hand.node.worker.nothing_came()
    assert (await hand.commit()).outcome == kv_pb2.OK
    await hand.node.worker.expect("lease_verified")


async def test_a_commit_before_any_bytes_is_denied(hand: Hand) -> None:
    assert (await hand.commit()).outcome == kv_pb2.DENIED
    assert hand.node.value("splitwise_kv_transfers_total", outcome="denied") == 1
    assert hand.node.worker.nothing_came()


@pytest.mark.parametrize("transport", ["tcp", "grpc"])
async def test_a_commit_that_overtakes_the_bytes_waits_for_them(hand: Hand, transport: str) -> None:
    committing = asyncio.create_task(hand.commit(streams=2))
    for pieces in (HALVES[:1], WHOLE):
        await asyncio.sleep(0.05)
        assert not committing.done()
        assert await hand.push(transport, pieces) == kv_pb2.OK
    assert (await committing).outcome == kv_pb2.OK
    await hand.node.worker.expect("lease_verified")
    assert hand.arrived()


async def test_a_commit_whose_bytes_do_not_come_is_refused(hand: Hand) -> None:
    await hand.push("tcp", WHOLE)
    assert (await hand.commit(streams=2)).outcome == kv_pb2.TRANSPORT_FAILED
    assert hand.node.worker.nothing_came()


async def test_calls_that_come_twice_say_the_same_twice(hand: Hand) -> None:
    await hand.push("tcp", WHOLE)
    replies = await asyncio.gather(*(hand.commit() for _ in range(5)))
    assert {reply.outcome for reply in replies} == {kv_pb2.OK}
    await hand.node.worker.expect("lease_verified")
    assert (await hand.abort()).fenced, "what is verified stays verified"
    assert hand.node.worker.nothing_came()
    assert hand.arrived()


async def test_an_abort_that_comes_twice_ends_the_lease_once(hand: Hand) -> None:
    await hand.push("tcp", WHOLE[:2])
    replies = await asyncio.gather(*(hand.abort() for _ in range(5)))
    assert all(reply.fenced for reply in replies)
    assert (await hand.node.worker.expect("lease_ended")).outcome == kv_pb2.CANCELLED
    assert hand.node.worker.nothing_came()
    before = hand.node.worker.memory[:]
    assert await hand.push("tcp", WHOLE) == kv_pb2.UNKNOWN_TRANSFER
    assert hand.node.worker.memory[:] == before


PIECES = st.builds(
    Piece,
    st.integers(0, LAYERS - 1),
    st.sampled_from([0, 250, 500]),
    st.sampled_from([500, 750, 1000]),
    flipped=st.booleans(),
).filter(lambda piece: piece.start < piece.end)


@given(
    pushes=st.lists(st.lists(PIECES, max_size=6), max_size=3),
    transport=st.sampled_from(["tcp", "grpc"]),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_pushed_only_what_was_meant_is_verified(
    tmp_path_factory: pytest.TempPathFactory, pushes: list[list[Piece]], transport: str
) -> None:
    """INV-3, for pushes at the same time."""

    async def play() -> None:
        node = Node(tmp_path_factory.mktemp("n"), "t", ["tcp", "grpc"])
        await node.start()
        hand = Hand(node)
        try:
            await hand.reserve()
            await asyncio.gather(*(hand.push(transport, pieces) for pieces in pushes))
            reply = await hand.commit()
            if reply.outcome == kv_pb2.OK:
                assert hand.arrived()
                await node.worker.expect("lease_verified")
            else:
                assert node.worker.nothing_came()
        finally:
            await hand.close()
            await node.stop()

    asyncio.run(play())
