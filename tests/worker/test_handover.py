"""A request on two workers: KV leaves or arrives, and blocks are free when nobody touches them.

The sidecar is the test's: a real socket tells what it was told, and the test says what it answers.
"""

import pytest

from splitwise_core.rpc import kv_pb2
from splitwise_worker import commands
from splitwise_worker.model.decoder import Decoder
from tests.worker.conftest import MakeRig
from tests.worker.support import (
    CANCELLED,
    CAPABILITY,
    EXPIRED,
    FAILURE,
    HANDED_OVER,
    INVALID,
    LENGTH_REACHED,
    OK,
    PEER,
    PEER_LOST,
    STOP,
    VOCAB,
    WALL_S,
    Rig,
    greedy,
    prompt,
)

# ---- the prompt's side ----


def test_a_prompt_is_announced_computed_layer_by_layer_and_finished(rig: Rig) -> None:
    rig.prefill(1, prompt(20), transfer="t")
    rig.turn()
    assert rig.told() == ["start_transfer", "layer 0", "layer 1", "finish_transfer"]


def test_the_sidecar_learns_whose_blocks_and_how_many_tokens(rig: Rig, decoder: Decoder) -> None:
    rig.prefill(1, prompt(20), transfer="t", output=[1, 2], max_tokens=9)
    rig.turn()
    start, *_, finish = rig.sidecar.heard()
    asked = start.start_transfer
    assert (asked.transfer_id, asked.peer, asked.num_tokens) == ("t", PEER, 22)
    assert asked.capability == CAPABILITY
    assert asked.deadline_unix_ms == int((WALL_S + 60) * 1000)
    assert len(asked.blocks) == 1
    first = greedy(decoder, [*prompt(20), 1, 2], 1)
    assert list(finish.finish_transfer.output_tokens) == first == rig.tokens(1)


def test_only_prompts_that_leave_are_announced(rig: Rig) -> None:
    rig.prefill(1, prompt(5), transfer="t")
    rig.prefill(2, prompt(6))
    rig.turn()
    ready = [m.layers_ready for m in rig.sidecar.heard() if m.HasField("layers_ready")]
    assert {layer.transfer_id for layer in ready} == {"t"}


def test_the_blocks_stay_until_the_peer_has_verified_them(rig: Rig) -> None:
    rig.prefill(1, prompt(20), transfer="t")
    rig.settle()
    assert rig.blocks.free_blocks == 3
    rig.transfer_ended("t")
    rig.settle()
    assert rig.end(1) == (HANDED_OVER, 0)
    assert rig.blocks.free_blocks == 4
    stages = rig.updates(1)[-1].stages
    assert (stages.kv_bytes, stages.transport) == (99, "grpc")


@pytest.mark.parametrize("asked", [{"max_tokens": 1}, {"stop": True}], ids=["length", "stop"])
def test_a_prompt_whose_first_token_is_the_last_is_withdrawn(
    rig: Rig, decoder: Decoder, asked: dict[str, object]
) -> None:
    first = greedy(decoder, prompt(20), 1)
    if asked.pop("stop", False):
        asked["stop_token_ids"] = first
    rig.prefill(1, prompt(20), transfer="t", **asked)
    rig.settle()
    assert rig.end(1)[0] in (STOP, LENGTH_REACHED)
    assert rig.told()[-1] == "withdraw_transfer"
    assert rig.blocks.free_blocks == 3, "the sidecar may still read them"
    rig.transfer_ended("t", CANCELLED)
    rig.settle()
    assert rig.blocks.free_blocks == 4


@pytest.mark.parametrize("computed", [False, True], ids=["while it waits", "when it is computed"])
@pytest.mark.parametrize("why", ["cancel", "deadline", "session"])
def test_a_prompt_that_is_not_wanted_is_withdrawn_and_held_until_the_sidecar_lets_go(
    make_rig: MakeRig, computed: bool, why: str
) -> None:
    rig = make_rig(batch_tokens=20)
    rig.prefill(0, prompt(20), max_tokens=1)
    rig.prefill(1, prompt(20), transfer="t")
    rig.turn()
    if computed:
        rig.turn()
    end(rig, why)
    rig.turn()
    assert rig.told()[-1] == "withdraw_transfer"
    assert rig.blocks.free_blocks == 3
    assert not rig.turn(), "a prompt that is not wanted is not computed"
    rig.transfer_ended("t", CANCELLED)
    rig.turn()
    assert rig.blocks.free_blocks == 4


def end(rig: Rig, why: str, number: int = 1) -> None:
    """The request ends before its end."""
    if why == "cancel":
        rig.cancel(number)
    elif why == "session":
        rig.engine.submit(commands.SessionEnded(1))
    else:
        rig.now += 61.0


@pytest.mark.parametrize("computed", [False, True], ids=["while it waits", "when it is computed"])
def test_a_transfer_that_fails_fails_its_request_with_the_same_outcome(
    rig: Rig, computed: bool
) -> None:
    rig.prefill(1, prompt(20), transfer="t")
    rig.prefill(2, prompt(20), transfer="u")
    if computed:
        rig.turn()
    rig.transfer_ended("t", kv_pb2.UNKNOWN_TRANSFER)
    rig.settle()
    assert rig.end(1) == (FAILURE, kv_pb2.UNKNOWN_TRANSFER)
    assert rig.blocks.free_blocks == 3
    assert "withdraw_transfer" not in rig.told(), "the sidecar has ended it by itself"


def test_a_transfer_that_was_over_before_its_cancel_frees_its_blocks_once(rig: Rig) -> None:
    rig.prefill(1, prompt(20), transfer="t")
    rig.turn()
    rig.cancel(1)
    rig.transfer_ended("t", OK)  # crossed the withdrawal
    rig.transfer_ended("t", CANCELLED)
    rig.settle()
    assert rig.blocks.free_blocks == 4


# ---- the tokens' side ----


def test_a_decode_reserves_all_it_may_need_and_opens_a_lease_for_what_arrives(rig: Rig) -> None:
    rig.decode(1, prompt(20), "t", output=[1], max_tokens=9)
    assert not rig.turn(), "INV-3: nothing runs before the KV is verified"
    (message,) = rig.sidecar.heard()
    lease = message.open_lease
    assert (lease.transfer_id, lease.num_tokens, lease.lease_ms) == ("t", 21, 10_000)
    assert lease.request_id == "request-1"
    assert (rig.blocks.free_blocks, rig.load.running_tokens) == (3, 21)


def test_a_decode_goes_on_from_the_kv_that_arrived_after_the_prompts_own_token(
    rig: Rig, decoder: Decoder
) -> None:
    """The KV that arrives is here what another sequence of this very engine left in its block."""
    whole = greedy(decoder, prompt(20), 6)
    rig.prefill(1, prompt(20), max_tokens=1)
    rig.decode(2, prompt(20), "t", max_tokens=6)
    rig.settle()
    (told,) = rig.sidecar.heard()
    (left,) = (block for block in range(4) if rig.pool.tensor[block].any())
    rig.pool.tensor[told.open_lease.blocks[0]] = rig.pool.tensor[left]
    rig.verified("t", whole[:1])
    rig.settle()
    assert rig.tokens(2) == whole[1:]
    stages = rig.updates(2)[0].stages
    assert stages.HasField("first_decode_s")
    assert (stages.kv_bytes, stages.transfer_s, stages.transport) == (99, 0.5, "grpc")
    assert rig.blocks.free_blocks == 4


@pytest.mark.parametrize("why", ["cancel", "deadline", "session"])
def test_a_decode_that_is_not_wanted_waits_for_the_fence(rig: Rig, why: str) -> None:
    """INV-6: a late write may still land in its blocks."""
    rig.decode(1, prompt(20), "t")
    rig.turn()
    end(rig, why)
    rig.turn()
    assert rig.told() == ["open_lease", "close_lease"]
    assert rig.blocks.free_blocks == 3
    rig.lease_ended("t")
    rig.turn()
    assert rig.blocks.free_blocks == 4


@pytest.mark.parametrize("why", ["cancel", "deadline", "session"])
def test_a_decode_that_runs_frees_its_blocks_at_once(rig: Rig, why: str) -> None:
    rig.decode(1, prompt(20), "t", max_tokens=30)
    rig.verified("t")
    rig.turn()
    end(rig, why)
    rig.settle()
    assert rig.told() == ["open_lease"]
    assert rig.blocks.free_blocks == 4


def test_kv_that_is_verified_after_the_cancel_is_not_decoded(rig: Rig) -> None:
    rig.decode(1, prompt(20), "t")
    rig.cancel(1)
    rig.verified("t")
    rig.lease_ended("t")
    assert not rig.turn()
    assert (rig.tokens(1), rig.blocks.free_blocks) == ([], 4)


def test_a_lease_that_ends_fails_its_request_with_the_same_outcome(rig: Rig) -> None:
    rig.decode(1, prompt(20), "t")
    rig.lease_ended("t", EXPIRED)
    rig.turn()
    assert rig.end(1) == (FAILURE, EXPIRED)
    assert rig.updates(1)[0].detail == "so it is"
    assert rig.blocks.free_blocks == 4


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param([], id="none"),
        pytest.param([VOCAB], id="one outside the vocabulary"),
        pytest.param([1, 2, 3, 4], id="as many as were asked in all"),
        pytest.param([1] * 60, id="more than there are blocks for"),
    ],
)
def test_tokens_of_a_peer_that_make_no_sense_fail_their_request_alone(
    rig: Rig, tokens: list[int]
) -> None:
    rig.prefill(2, prompt(9), max_tokens=3)
    rig.decode(1, prompt(20), "t", max_tokens=4)
    rig.verified("t", tokens)
    rig.settle()
    assert rig.end(1) == (FAILURE, INVALID)
    assert rig.end(2) == (LENGTH_REACHED, 0)
    assert rig.blocks.free_blocks == 4


def test_news_of_unknown_transfers_changes_nothing(rig: Rig) -> None:
    rig.verified("x")
    rig.lease_ended("x")
    rig.transfer_ended("x")
    rig.hear()
    assert not rig.turn()


# ---- a sidecar that goes ----


def test_a_lost_sidecar_fails_what_it_held_and_nothing_else(make_rig: MakeRig) -> None:
    rig = make_rig(blocks=8)
    rig.prefill(1, prompt(5), transfer="a")  # will wait for its peer
    rig.decode(2, prompt(5), "b")  # will wait for its KV
    rig.decode(3, prompt(5), "c", max_tokens=9)  # will decode
    rig.prefill(4, prompt(5), max_tokens=9)  # never needs a sidecar
    rig.decode(5, prompt(5), "d")
    rig.cancel(5)
    rig.verified("c")
    rig.turn()
    assert rig.blocks.free_blocks == 3
    rig.engine.submit(commands.SidecarLost())
    rig.settle()
    assert [rig.end(number) for number in (1, 2)] == [(FAILURE, PEER_LOST)] * 2
    assert [rig.end(number)[0] for number in (3, 4)] == [LENGTH_REACHED] * 2
    assert (rig.blocks.free_blocks, len(rig.updates(5))) == (8, 0)


def test_without_a_sidecar_transfers_are_refused_and_the_worker_is_not_ready(rig: Rig) -> None:
    rig.engine.submit(commands.SidecarLost())
    rig.prefill(1, prompt(5), transfer="a")
    rig.decode(2, prompt(5), "b")
    rig.turn()
    assert [rig.end(number) for number in (1, 2)] == [(FAILURE, PEER_LOST)] * 2
    assert not rig.load.ready
    rig.hear(attached=kv_pb2.Attached(outcome=OK, epoch=5))
    rig.turn()
    assert not rig.load.ready
    rig.probed()
    rig.turn()
    assert rig.load.ready


def test_one_transfer_is_held_once_and_its_name_is_free_when_it_has_ended(rig: Rig) -> None:
    rig.decode(1, prompt(5), "t")
    rig.decode(2, prompt(5), "t")
    rig.prefill(3, prompt(5), transfer="t")
    rig.cancel(1)
    rig.decode(4, prompt(5), "t")
    rig.turn()
    assert [rig.end(number) for number in (2, 3, 4)] == [(FAILURE, INVALID)] * 3
    rig.lease_ended("t")
    rig.decode(5, prompt(5), "t")
    rig.turn()
    assert rig.updates(5) == []
