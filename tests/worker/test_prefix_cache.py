"""Prompts that begin alike: what is found, what it saves, and that no answer changes by it."""

import math
from typing import Any

import pytest

from splitwise_worker.model.decoder import Decoder
from tests.worker.conftest import MakeRig
from tests.worker.support import FAILED, FAILURE, INVALID, Rig, greedy, prompt
from tests.worker.test_engine import Poisoned

BLOCK = 8
COMMON = prompt(3 * BLOCK, first=5)


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    """An engine with 24 blocks of 8 tokens: three sequences of the longest kind."""
    return make_rig(blocks=24, block_tokens=BLOCK)


def answer(rig: Rig, number: int, tokens: list[int], count: int = 5, **asked: Any) -> list[int]:
    rig.prefill(number, tokens, max_tokens=count, **asked)
    rig.settle()
    return rig.tokens(number)


def cached(rig: Rig, number: int) -> int:
    """What the first update says of the prompt."""
    return int(rig.updates(number)[0].stages.cached_tokens)


def computed(rig: Rig) -> float:
    return rig.sample("splitwise_worker_computed_tokens_total", kind="prompt")


@pytest.mark.parametrize(
    ("tokens", "hit"),
    [
        pytest.param([*COMMON, 1, 2, 3], 24, id="whole blocks of a common beginning"),
        pytest.param([*COMMON[:23], 999, 1], 16, id="as far as it is the same"),
        pytest.param([999, *COMMON[1:]], 0, id="another first token, nothing"),
        pytest.param(COMMON, 16, id="one token is computed even if all are known"),
        pytest.param(COMMON[:7], 0, id="less than a block"),
    ],
)
def test_a_prompt_computes_only_what_is_new_and_answers_the_same(
    rig: Rig, decoder: Decoder, tokens: list[int], hit: int
) -> None:
    answer(rig, 1, [*COMMON, 7, 7])
    before = computed(rig)
    assert answer(rig, 2, tokens) == greedy(decoder, tokens, 5)
    assert (cached(rig, 1), cached(rig, 2)) == (0, hit)
    assert computed(rig) - before == len(tokens) - hit


def test_a_conversation_goes_on_from_the_answer_before(rig: Rig, decoder: Decoder) -> None:
    said = answer(rig, 1, COMMON, count=10)
    tokens = [*COMMON, *said, 1, 2, 3]
    assert answer(rig, 2, tokens) == greedy(decoder, tokens, 5)
    assert cached(rig, 2) == 32, "of 24 + 10 tokens, the last has never been computed"


def test_those_that_run_together_share_and_each_answers_as_if_alone(
    rig: Rig, decoder: Decoder
) -> None:
    answer(rig, 0, COMMON, count=1)
    prompts = {number: [*COMMON, *prompt(number, first=number)] for number in range(1, 7)}
    for number, tokens in prompts.items():
        rig.prefill(number, tokens, max_tokens=number + 2)
    rig.settle()
    for number, tokens in prompts.items():
        assert rig.tokens(number) == greedy(decoder, tokens, number + 2)
    assert rig.blocks.free_blocks == 24


def test_more_fit_at_once_when_they_share(rig: Rig) -> None:
    answer(rig, 0, COMMON, count=1)
    for number in range(1, 8):
        rig.prefill(number, [*COMMON, number], max_tokens=16)  # 2 blocks each beside the 3
    rig.turn()
    assert rig.load.running == 7
    assert rig.load.free_blocks == 24 - 3 - 2 * 7
    assert rig.sample("splitwise_kv_blocks", state="used") == 17


def test_blocks_that_are_only_cached_count_as_free_and_are_given_to_others(
    rig: Rig, decoder: Decoder
) -> None:
    answer(rig, 1, COMMON)
    assert rig.sample("splitwise_kv_blocks", state="cached") == 3
    assert rig.sample("splitwise_kv_blocks", state="free") == 21
    assert rig.load.free_blocks == 24
    for number in range(2, 5):
        rig.prefill(number, prompt(60, first=number), max_tokens=4)
    rig.settle()
    assert rig.sample("splitwise_prefix_cache_evicted_blocks_total") > 0
    assert answer(rig, 9, COMMON) == greedy(decoder, COMMON, 5)
    assert cached(rig, 9) == 0


def test_what_was_asked_and_found_is_counted(rig: Rig) -> None:
    answer(rig, 1, COMMON)
    answer(rig, 2, [*COMMON, 1])
    labels = {"saves": "compute"}
    assert rig.sample("splitwise_prefix_cache_queried_tokens_total", **labels) == 24 + 25
    assert rig.sample("splitwise_prefix_cache_hit_tokens_total", **labels) == 24


def test_the_queue_is_as_long_as_what_is_left_to_compute(make_rig: MakeRig) -> None:
    rig = make_rig(blocks=24, block_tokens=BLOCK, batch_tokens=10)
    answer(rig, 1, COMMON)
    rig.prefill(2, prompt(10, first=900))
    rig.prefill(3, [*COMMON, 1, 2])
    rig.turn()
    assert (rig.load.queued_requests, rig.load.queued_tokens) == (1, 2)


def test_what_came_out_wrong_is_found_by_nobody(make_rig: MakeRig, decoder: Decoder) -> None:
    rig = make_rig(decoder=Poisoned(decoder, math.nan), blocks=24, block_tokens=BLOCK)
    answer(rig, 1, [Poisoned.POISON, *COMMON])
    assert rig.end(1) == (FAILURE, FAILED)
    assert rig.sample("splitwise_kv_blocks", state="cached") == 0
    assert rig.sample("splitwise_kv_blocks", state="free") == 24


def test_without_a_key_nothing_is_shared(make_rig: MakeRig) -> None:
    rig = make_rig(blocks=24, block_tokens=BLOCK, prefix_key=None)
    assert answer(rig, 1, COMMON) == answer(rig, 2, COMMON)
    assert cached(rig, 2) == 0


# ---- with a hand-over ----


def test_a_cached_beginning_is_pushed_with_the_rest(rig: Rig, decoder: Decoder) -> None:
    answer(rig, 1, COMMON)
    rig.told()
    tokens = [*COMMON, 1, 2]
    rig.prefill(2, tokens, transfer="t")
    rig.turn()
    start, *_, finish = rig.sidecar.heard()
    assert start.start_transfer.num_tokens == len(tokens)
    assert len(start.start_transfer.blocks) == 4
    assert list(finish.finish_transfer.output_tokens) == greedy(decoder, tokens, 1)
    rig.transfer_ended("t")
    rig.settle()
    assert rig.blocks.free_blocks == 24


def test_a_lease_is_for_what_is_not_here_and_the_answer_is_the_same(
    rig: Rig, decoder: Decoder
) -> None:
    answer(rig, 1, COMMON)
    tokens = [*COMMON, 1, 2]
    whole = greedy(decoder, tokens, 6)
    answer(rig, 2, tokens, count=1)  # leaves the end in a block of its own
    rig.told()
    rig.decode(3, tokens, "t", max_tokens=6)
    rig.turn()
    (told,) = rig.sidecar.heard()
    lease = told.open_lease
    assert (lease.num_tokens, lease.held_tokens, len(lease.blocks)) == (26, 24, 1)
    for block in range(24):  # the peer writes what some block here holds: tokens 24 and 25
        if rig.pool.tensor[block, :, :, :2].any() and not rig.pool.tensor[block, :, :, 2:].any():
            rig.pool.tensor[lease.blocks[0]] = rig.pool.tensor[block]
    rig.verified("t", whole[:1])
    rig.settle()
    assert rig.tokens(3) == whole[1:]
    assert rig.sample("splitwise_prefix_cache_hit_tokens_total", saves="transfer") == 24


def test_kv_that_arrived_is_held_for_the_next_lease_once_it_is_verified(rig: Rig) -> None:
    """INV-3: what was not verified is found by nobody."""
    for number, transfer in ((1, "a"), (2, "b")):
        rig.decode(number, [*COMMON, number], transfer)
    rig.turn()
    assert [m.open_lease.held_tokens for m in rig.sidecar.heard()] == [0, 0]
    rig.lease_ended("a")
    rig.verified("b")
    rig.settle()
    rig.decode(3, [*COMMON, 3], "c")
    rig.turn()
    assert [m.open_lease.held_tokens for m in rig.sidecar.heard()] == [24]


def test_tokens_of_a_peer_that_make_no_sense_leave_nothing_to_be_found(rig: Rig) -> None:
    rig.decode(1, COMMON, "a")
    rig.verified("a", [5000])
    rig.settle()
    assert rig.end(1) == (FAILURE, INVALID)
    assert rig.sample("splitwise_kv_blocks", state="cached") == 0
