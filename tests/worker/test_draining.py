"""A worker that drains: sequences that go on for long move to a peer while they decode.

The sidecar is the test's: a real socket tells what it was told, and the test says what it answers.
"""

from typing import Any

import pytest

from splitwise_core.policy.batching import StepKind
from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_operator.pods import STOP_SECONDS
from splitwise_worker import commands, process, server
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.scheduler import Work
from splitwise_worker.sequence import SequenceKey
from tests.worker.conftest import MakeRig
from tests.worker.support import (
    CANCELLED,
    CAPABILITY,
    DRAINING,
    FAILURE,
    HANDED_OVER,
    INVALID,
    LENGTH_REACHED,
    PEER,
    PEER_LOST,
    SESSION,
    WALL_S,
    Rig,
    greedy,
    prompt,
)

WANTED, MOVE_FAILED = worker_pb2.MOVING_WANTED, worker_pb2.MOVING_FAILED
LONG = 40


def drain(rig: Rig, within_s: float = 20.0) -> None:
    rig.engine.submit(commands.Drain(within_s))


def move(rig: Rig, number: int, num_tokens: int, transfer: str = "m") -> None:
    """The router has found a peer."""
    leave = worker_pb2.Transfer(transfer_id=transfer, peer=PEER, capability=CAPABILITY)
    told = worker_pb2.Move(sequence=number, transfer=leave, num_tokens=num_tokens)
    rig.engine.submit(commands.Move(SequenceKey(SESSION, number), told))


def pushed(rig: Rig, transfer: str = "m") -> None:
    rig.hear(transfer_pushed=kv_pb2.TransferPushed(transfer_id=transfer))


def moving(rig: Rig, number: int) -> list[int]:
    return [update.moving for update in rig.updates(number) if update.moving]


@pytest.fixture
def moved(rig: Rig) -> Rig:
    """A sequence of 20 tokens and 3 of output that decodes, and of which 22 are on their way."""
    rig.prefill(1, prompt(20), max_tokens=LONG)
    for _ in range(3):
        rig.turn()
    drain(rig)
    move(rig, 1, 22)
    rig.turn()
    return rig


def test_a_sequence_that_goes_on_for_long_wants_a_peer_again_and_again(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=LONG)
    rig.turn()
    drain(rig)
    rig.turn()
    rig.turn()
    assert moving(rig, 1) == [WANTED]
    rig.now += 1.1
    rig.turn()
    assert moving(rig, 1) == [WANTED] * 2


def test_a_sequence_that_ends_soon_is_left_alone(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=LONG)
    rig.turn()
    rig.scheduler.computed(Work(StepKind.TOKEN, tuple(rig.scheduler.running()), (1,)), 0.01)
    drain(rig)
    rig.settle()
    assert moving(rig, 1) == []
    assert rig.end(1) == (LENGTH_REACHED, 0)
    assert rig.sample("splitwise_worker_drained_sequences_total", fate="stays") == 1
    assert rig.sample("splitwise_draining_workers") == 1


def test_all_layers_of_what_changes_no_more_are_pushed_while_it_decodes(moved: Rig) -> None:
    start, ready = moved.sidecar.heard()
    asked = start.start_transfer
    assert (asked.transfer_id, asked.peer, asked.num_tokens) == ("m", PEER, 22)
    assert (asked.capability, asked.tell_pushed) == (CAPABILITY, True)
    assert asked.deadline_unix_ms == int((WALL_S + 60) * 1000)
    assert (ready.layers_ready.first, ready.layers_ready.count) == (0, 2)
    before = len(moved.tokens(1))
    moved.turn()
    assert len(moved.tokens(1)) == before + 1


def test_what_was_decoded_meanwhile_follows_as_tokens_and_nothing_is_decoded_after(
    moved: Rig, decoder: Decoder
) -> None:
    moved.turn()
    pushed(moved)
    moved.settle()
    *_, finish = moved.sidecar.heard()
    sent = moved.tokens(1)
    assert sent == greedy(decoder, prompt(20), len(sent))
    assert list(finish.finish_transfer.output_tokens) == sent[2:]
    assert moved.blocks.free_blocks == 3, "the sidecar may still read them"
    moved.transfer_ended("m")
    moved.settle()
    assert moved.end(1) == (HANDED_OVER, 0)
    assert moved.updates(1)[-1].stages.kv_bytes == 99
    assert moved.blocks.free_blocks == 4
    assert moved.sample("splitwise_worker_drained_sequences_total", fate="moves") == 1


@pytest.mark.parametrize("when", ["while it is pushed", "when it has stopped"])
@pytest.mark.parametrize("why", ["the peer", "the sidecar"])
def test_a_move_that_comes_to_nothing_costs_no_token(
    moved: Rig, decoder: Decoder, when: str, why: str
) -> None:
    if when == "when it has stopped":
        pushed(moved)
        moved.settle()
    if why == "the peer":
        moved.transfer_ended("m", PEER_LOST)
    else:
        moved.engine.submit(commands.SidecarLost())
    moved.settle()
    assert MOVE_FAILED in moving(moved, 1)
    assert moved.tokens(1) == greedy(decoder, prompt(20), LONG)
    assert moved.end(1) == (LENGTH_REACHED, 0)
    assert moved.blocks.free_blocks == 4


def test_a_sequence_whose_move_failed_moves_to_another_peer(moved: Rig) -> None:
    moved.transfer_ended("m", PEER_LOST)
    moved.turn()
    move(moved, 1, 23, transfer="n")
    pushed(moved, "n")
    moved.turn()
    moved.transfer_ended("n")
    moved.settle()
    assert moved.end(1) == (HANDED_OVER, 0)


def test_a_peer_that_cannot_take_it_is_pushed_to_no_more(moved: Rig) -> None:
    moved.told()
    told = worker_pb2.Move(sequence=1)
    moved.engine.submit(commands.Move(SequenceKey(SESSION, 1), told))
    moved.turn()
    assert moved.told() == ["withdraw_transfer"]
    moved.transfer_ended("m", CANCELLED)
    moved.settle()
    assert moved.end(1) == (LENGTH_REACHED, 0)


@pytest.mark.parametrize("how", ["cancel", "end"])
def test_a_sequence_that_ends_while_it_moves_is_withdrawn(moved: Rig, how: str) -> None:
    """INV-4: its blocks are held until the sidecar lets go of them."""
    if how == "cancel":
        moved.cancel(1)
    moved.settle()
    assert moved.told()[-1] == "withdraw_transfer"
    assert moved.blocks.free_blocks == 3
    pushed(moved)
    moved.transfer_ended("m", CANCELLED)
    moved.settle()
    assert moved.blocks.free_blocks == 4


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"num_tokens": 19}, id="less than its prompt"),
        pytest.param({"num_tokens": 60}, id="more than it has computed"),
        pytest.param({"num_tokens": 20, "transfer": ""}, id="by no name"),
        pytest.param({"num_tokens": 20, "number": 2}, id="of one that does not decode"),
    ],
)
def test_a_move_that_makes_no_sense_is_refused_and_the_sequence_goes_on(
    rig: Rig, asked: dict[str, Any]
) -> None:
    rig.prefill(1, prompt(20), max_tokens=9)
    rig.decode(2, prompt(20), "t", max_tokens=9)
    rig.turn()
    number = asked.setdefault("number", 1)
    move(rig, **asked)
    rig.turn()
    (refused,) = [update for update in rig.updates(number) if update.moving]
    assert (refused.moving, refused.outcome) == (MOVE_FAILED, INVALID)
    rig.settle()
    assert rig.end(1) == (LENGTH_REACHED, 0)


def test_what_is_left_at_the_deadline_returns_to_its_router(make_rig: MakeRig) -> None:
    rig = make_rig(blocks=8)
    rig.prefill(1, prompt(5), max_tokens=LONG)
    rig.prefill(2, prompt(5), transfer="t")  # its peer never takes it
    rig.decode(3, prompt(5), "u")  # its KV never comes
    rig.turn()
    drain(rig, within_s=5.0)
    rig.turn()
    rig.now += 5.1
    rig.turn()
    assert [rig.end(number) for number in (1, 2, 3)] == [(FAILURE, DRAINING)] * 3
    assert rig.sample("splitwise_worker_drained_sequences_total", fate="returns") == 3
    rig.transfer_ended("t", CANCELLED)
    rig.lease_ended("u")
    rig.settle()
    assert (rig.engine.sequences_left(), rig.blocks.free_blocks) == (0, 8)


def test_prompts_that_would_wait_for_too_long_return_at_once(make_rig: MakeRig) -> None:
    rig = make_rig(batch_tokens=20)
    rig.scheduler.prompt_speed.computed(20, 1.0)
    for number in range(4):
        rig.prefill(number, prompt(20, first=number), max_tokens=1)
    drain(rig, within_s=2.5)
    rig.turn()
    assert [rig.end(number) for number in (2, 3)] == [(FAILURE, DRAINING)] * 2
    rig.settle()
    assert [rig.end(number)[0] for number in (0, 1)] == [LENGTH_REACHED] * 2


def test_a_drain_and_the_words_after_it_end_within_a_pods_grace() -> None:
    ends_s = server.SETTLE_S + process.STOP_S + process.HANG_UP_S
    assert ends_s < STOP_SECONDS
