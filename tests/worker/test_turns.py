"""Whose turn it is on a worker: chunks beside sequences that decode, priorities, and clients."""

import pytest

from splitwise_core.policy.batching import PREEMPTIONS
from splitwise_core.policy.fairness import Priority
from splitwise_worker.model.decoder import Decoder
from tests.worker.conftest import MakeRig
from tests.worker.support import INVALID, Rig, greedy, prompt

CHUNK = 8


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """A worker that computes 8 prompt tokens at a time while sequences decode."""
    return make_rig(blocks=24, block_tokens=8, chunk_tokens=CHUNK)


def first_tokens(rig: Rig) -> list[int]:
    """Sequences in the order of their first tokens."""
    news = [update.sequence for message in rig.messages for update in message.get(1, ())]
    return list(dict.fromkeys(news))


def test_a_long_prompt_is_computed_in_chunks_and_the_answer_is_the_same(
    rig: Rig, decoder: Decoder
) -> None:
    rig.prefill(1, prompt(5), max_tokens=30)
    rig.turn()
    rig.prefill(2, prompt(50, first=9), max_tokens=6)
    rig.settle()
    assert rig.tokens(1) == greedy(decoder, prompt(5), 30)
    assert rig.tokens(2) == greedy(decoder, prompt(50, first=9), 6)
    steps = "splitwise_worker_step_tokens_bucket"
    assert rig.sample(steps, kind="prompt", le="8.0") == rig.sample(steps, kind="prompt", le="+Inf")
    assert rig.sample(steps, kind="mixed", le="+Inf") == 6, "chunks but for the first one"
    assert rig.sample(steps, kind="mixed", le="16.0") == 6, "each with one token more"


def test_who_decodes_goes_on_while_a_long_prompt_is_computed(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=30)
    rig.turn()
    rig.prefill(2, prompt(60, first=9), max_tokens=2)
    held_up = 0
    while not rig.tokens(2):
        before = len(rig.tokens(1))
        rig.turn()
        held_up = held_up + 1 if len(rig.tokens(1)) == before else 0
        assert held_up <= PREEMPTIONS
    assert len(rig.tokens(1)) > 3


def test_from_the_second_step_on_each_one_is_of_a_chunk_and_of_tokens(rig: Rig) -> None:
    for number in (1, 2):
        rig.prefill(number, prompt(5, first=number), max_tokens=30)
    rig.turn()
    rig.prefill(3, prompt(60, first=9), max_tokens=2)
    rig.turn()
    assert (len(rig.tokens(1)), rig.load.queued_tokens) == (1, 60 - CHUNK), "the prompt's alone"
    for turn in range(1, 4):
        rig.turn()
        assert [len(rig.tokens(number)) for number in (1, 2)] == [1 + turn] * 2
        assert rig.load.queued_tokens == 60 - (1 + turn) * CHUNK
    computed = "splitwise_worker_computed_tokens_total"
    assert rig.sample(computed, kind="prompt") == 5 + 5 + 4 * CHUNK
    assert rig.sample(computed, kind="token") == 2 * 3


def test_where_nobody_decodes_a_prompt_is_computed_at_once(rig: Rig) -> None:
    rig.prefill(1, prompt(60), max_tokens=2)
    rig.turn()
    assert len(rig.tokens(1)) == 1


def test_a_prompt_that_leaves_is_announced_with_its_last_chunk(rig: Rig, decoder: Decoder) -> None:
    rig.prefill(1, prompt(5), max_tokens=50)
    rig.turn()
    rig.told()
    rig.prefill(2, prompt(20, first=9), transfer="t")
    rig.turn()
    rig.turn()
    assert rig.told() == ["start_transfer"], "not all of a layer's tokens are there"
    while not rig.tokens(2):
        rig.turn()
    assert rig.told() == ["layer 0", "layer 1", "finish_transfer"]
    assert rig.tokens(2) == greedy(decoder, prompt(20, first=9), 1)


def test_a_prompt_that_is_cancelled_amid_its_chunks_leaves_nothing_behind(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=9)
    rig.turn()
    rig.prefill(2, prompt(50, first=9))
    rig.turn()
    assert rig.load.queued_tokens == 50 - CHUNK
    rig.cancel(2)
    rig.settle()
    assert rig.tokens(2) == []
    assert rig.blocks.free_blocks == 24


def test_a_higher_priority_goes_first_and_equals_in_the_order_of_their_arrival(
    make_rig: MakeRig,
) -> None:
    rig = make_rig(blocks=24, block_tokens=8, batch_tokens=1)  # one prompt a step
    for number, priority in enumerate([0, -1, 1, 0, 1]):
        message = rig.asked(number, prompt(9, first=number), max_tokens=1)
        message.request.priority = priority
        rig.submit_prefill(message)
    rig.settle()
    assert first_tokens(rig) == [2, 4, 0, 3, 1]


def test_clients_take_turns_however_many_requests_one_has(make_rig: MakeRig) -> None:
    rig = make_rig(blocks=24, block_tokens=8, batch_tokens=1)
    for number, tenant in enumerate([7, 7, 7, 7, 8, 8]):
        message = rig.asked(number, prompt(9, first=number), max_tokens=1)
        message.request.tenant = tenant
        rig.submit_prefill(message)
    rig.settle()
    assert set(first_tokens(rig)[:4]) == {0, 1, 4, 5}


def test_a_priority_that_there_is_not_is_refused(rig: Rig) -> None:
    message = rig.asked(1, prompt(9))
    message.request.priority = max(Priority) + 1
    rig.submit_prefill(message)
    rig.settle()
    assert rig.end(1)[1] == INVALID
