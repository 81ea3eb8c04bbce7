"""What a worker answers to a prompt that it computes and decodes by itself."""

import math
from typing import Any

import pytest
import torch

from splitwise_core.rpc import worker_pb2
from splitwise_worker import commands
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.sampling import Sampled
from tests.worker.conftest import MakeRig
from tests.worker.stubs import StubRunner
from tests.worker.support import (
    DRAINING,
    EXPIRED,
    FAILED,
    FAILURE,
    INVALID,
    LENGTH,
    LENGTH_REACHED,
    NO_CAPACITY,
    STOP,
    Rig,
    greedy,
    prompt,
)


def answer(rig: Rig, number: int, tokens: list[int], **asked: Any) -> list[int]:
    """Lets one request run to its end."""
    rig.prefill(number, tokens, **asked)
    rig.settle()
    assert rig.end(number)[0] in (STOP, LENGTH_REACHED)
    return rig.tokens(number)


# ---- what is generated ----


def test_the_answer_is_the_models_own_greedy_one(rig: Rig, decoder: Decoder) -> None:
    assert answer(rig, 1, prompt(20), max_tokens=6) == greedy(decoder, prompt(20), 6)
    assert rig.end(1) == (LENGTH_REACHED, 0)
    assert rig.blocks.free_blocks == 4


def test_requests_that_run_together_get_what_they_would_get_alone(
    make_rig: MakeRig, decoder: Decoder
) -> None:
    rig = make_rig(blocks=8)
    prompts = {number: prompt(3 + 5 * number, first=number) for number in range(8)}
    for number, tokens in prompts.items():
        rig.prefill(number, tokens, max_tokens=2 + number)
        rig.turn()
    rig.settle()
    for number, tokens in prompts.items():
        assert rig.tokens(number) == greedy(decoder, tokens, 2 + number)


def test_one_token_may_be_all_that_is_asked(rig: Rig, decoder: Decoder) -> None:
    assert answer(rig, 1, prompt(LENGTH - 1), max_tokens=1) == greedy(
        decoder, prompt(LENGTH - 1), 1
    )


def test_an_answer_may_fill_the_context(rig: Rig, decoder: Decoder) -> None:
    assert answer(rig, 1, [5], max_tokens=LENGTH - 1) == greedy(decoder, [5], LENGTH - 1)


def test_a_retry_goes_on_after_the_tokens_of_the_first_attempt(rig: Rig, decoder: Decoder) -> None:
    """INV-2: no token twice, none left out; max_tokens counts both attempts."""
    whole = greedy(decoder, prompt(20), 8)
    assert answer(rig, 1, prompt(20), output=whole[:3], max_tokens=8) == whole[3:]


def test_a_seeded_retry_goes_on_with_the_very_same_draws(rig: Rig) -> None:
    asked = {"temperature": 1.0, "seed": 11, "max_tokens": 8}
    whole = answer(rig, 1, prompt(20), **asked)
    assert answer(rig, 2, prompt(20), output=whole[:5], **asked) == whole[5:]


def test_a_seed_decides_the_draws_whatever_runs_beside(rig: Rig) -> None:
    asked = {"temperature": 1.0, "top_p": 0.9, "max_tokens": 8}
    alone = answer(rig, 1, prompt(9), seed=5, **asked)
    for number, seed in ((2, 6), (3, 5), (4, 7)):
        rig.prefill(number, prompt(9), seed=seed, **asked)
    rig.settle()
    assert rig.tokens(3) == alone
    assert rig.tokens(2) != alone


def test_a_stop_token_ends_the_answer_and_is_part_of_it(rig: Rig, decoder: Decoder) -> None:
    whole = greedy(decoder, prompt(20), 8)
    third = whole.index(whole[2])
    assert answer(rig, 1, prompt(20), max_tokens=8, stop_token_ids=[whole[2]]) == whole[: third + 1]
    assert rig.end(1)[0] == STOP


def test_the_models_own_end_ends_the_answer_unless_it_is_ignored(
    make_rig: MakeRig, decoder: Decoder
) -> None:
    whole = greedy(decoder, prompt(20), 8)
    rig = make_rig(eos=whole[:1])
    assert answer(rig, 1, prompt(20), max_tokens=8, ignore_eos=False) == whole[:1]
    assert answer(rig, 2, prompt(20), max_tokens=8, ignore_eos=True) == whole


def test_logprobs_come_with_every_token_of_the_prompts_step_and_of_later_ones(rig: Rig) -> None:
    tokens = answer(rig, 1, prompt(20), max_tokens=3, logprobs=2)
    found = [update.logprobs[0] for update in rig.updates(1)]
    assert len(found) == 3
    for token, logprob in zip(tokens, found, strict=True):
        assert logprob.top_tokens[0] == token
        assert logprob.logprob == logprob.top_logprobs[0] >= logprob.top_logprobs[1]
        assert math.exp(logprob.logprob) <= 1


def test_a_bias_and_a_penalty_change_the_answer(rig: Rig, decoder: Decoder) -> None:
    after_17 = greedy(decoder, [*prompt(20), 17], 1)
    assert answer(rig, 1, prompt(20), max_tokens=3, logit_bias={17: 50.0}) == [17, 17, 17]
    asked = {"max_tokens": 3, "logit_bias": {17: 50.0}, "presence_penalty": 100.0}
    assert answer(rig, 2, prompt(20), **asked)[:2] == [17, *after_17]


# ---- how it is told ----


def test_one_message_a_step_tells_a_router_of_all_its_sequences(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=3)
    rig.prefill(2, prompt(6), max_tokens=3)
    rig.prefill(3, prompt(7), max_tokens=3, session=2)
    before = len(rig.messages)
    rig.settle()
    steps = [message for message in rig.messages[before:] if message]
    assert [{s: len(news) for s, news in step.items()} for step in steps] == [{1: 2, 2: 1}] * 3


def test_the_first_token_tells_of_queue_and_prefill(rig: Rig) -> None:
    rig.prefill(1, prompt(5))
    rig.settle()
    first, second, *_ = rig.updates(1)
    assert first.stages.HasField("queue_s")
    assert first.stages.HasField("prefill_s")
    assert not second.HasField("stages")


def test_a_request_waits_from_when_it_comes_not_from_when_the_loop_takes_it_up(rig: Rig) -> None:
    """What comes while a step runs waits for its end."""
    rig.prefill(1, prompt(5), max_tokens=1)
    rig.now += 0.75
    rig.settle()
    first = rig.updates(1)[0]
    assert first.stages.queue_s == pytest.approx(0.75)


def test_the_load_tells_what_waits_what_runs_and_what_is_free(make_rig: MakeRig) -> None:
    rig = make_rig(batch_tokens=10)
    rig.prefill(1, prompt(10), max_tokens=5)
    rig.prefill(2, prompt(7), max_tokens=5)
    rig.turn()
    load = rig.load
    assert (load.queued_requests, load.queued_tokens) == (1, 7)
    assert (load.running, load.running_tokens) == (1, 11)
    assert (load.free_blocks, load.free_sequences, load.sequences) == (2, 6, 2)
    assert load.ready
    rig.settle()
    assert rig.load.sequences == 0
    assert (rig.load.running, rig.load.free_blocks, rig.load.free_sequences) == (0, 4, 8)


def test_the_load_tells_how_fast_prompts_are_computed(make_rig: MakeRig) -> None:
    class TwoSecondSteps(StubRunner):
        def run(self, *args: Any, **more: Any) -> list[Sampled | None]:
            rig.now += 2.0
            return super().run(*args, **more)

    rig = make_rig(blocks=32, block_tokens=4, batch_tokens=10, runner=TwoSecondSteps(set()))
    assert rig.load.prompt_tokens_per_s == 0
    rig.prefill(1, prompt(10), max_tokens=20)
    rig.turn()
    assert rig.load.prompt_tokens_per_s == 5
    for number in range(2, 9):  # steps between them are those of tokens
        rig.prefill(number, prompt(10, first=number))
    rig.settle()
    assert 2 < rig.load.prompt_tokens_per_s < 5


def test_metrics_show_what_was_computed_and_how_it_ended(rig: Rig) -> None:
    answer(rig, 1, prompt(20), max_tokens=4)
    assert rig.sample("splitwise_worker_computed_tokens_total", kind="prompt") == 20
    assert rig.sample("splitwise_worker_computed_tokens_total", kind="token") == 3
    assert rig.sample("splitwise_worker_sequences_total", outcome="ok") == 1
    assert rig.sample("splitwise_kv_blocks", state="free") == 4


def test_a_worker_is_busy_in_rounds_with_a_step_and_only_then(rig: Rig) -> None:
    """What surrounds a step is work too: of a small model it is a good part of the time."""

    def deliver(_: object, load: worker_pb2.Load) -> None:
        rig.now += 0.25
        rig.load = load

    rig.deliver = deliver
    rig.turn()
    assert rig.sample("splitwise_worker_busy_seconds_total") == 0
    rig.prefill(1, prompt(20), max_tokens=6)
    rig.settle()
    assert rig.sample("splitwise_worker_busy_seconds_total") == 6 * 0.25
    assert rig.load.busy_s == 6 * 0.25, "routers are told the same"


# ---- ends before the end ----


def test_a_cancelled_sequence_is_told_of_no_more_and_frees_its_blocks_at_once(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=50)
    rig.turn()
    told = len(rig.updates(1))
    rig.cancel(1)
    rig.settle()
    assert len(rig.updates(1)) == told
    assert rig.blocks.free_blocks == 4
    assert rig.sample("splitwise_worker_sequences_total", outcome="cancelled") == 1


def test_a_cancel_of_nobody_changes_nothing(rig: Rig) -> None:
    rig.cancel(77)
    rig.cancel(1, session=9)
    assert not rig.turn()


def test_a_session_that_ends_takes_its_own_sequences_along_and_no_others(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=9, session=1)
    rig.prefill(1, prompt(5), max_tokens=9, session=2)
    rig.turn()
    rig.engine.submit(commands.SessionEnded(1))
    rig.settle()
    assert len(rig.tokens(1, session=1)) == 1
    assert len(rig.tokens(1, session=2)) == 9


@pytest.mark.parametrize("turns", [0, 1, 3], ids=["before it runs", "after its prompt", "amid"])
def test_a_deadline_ends_a_request_with_word_of_it(rig: Rig, turns: int) -> None:
    rig.prefill(1, prompt(5), max_tokens=50, deadline_s=1_800_000_010.0)
    for _ in range(turns):
        rig.turn()
    rig.now = 10.5
    rig.settle()
    assert rig.end(1) == (FAILURE, EXPIRED)
    assert len(rig.tokens(1)) == turns
    assert rig.blocks.free_blocks == 4


def test_who_finds_no_room_is_refused_and_holds_nothing(rig: Rig) -> None:
    for number in range(5):
        rig.prefill(number, prompt(5), max_tokens=9)
    rig.turn()
    assert rig.end(4) == (FAILURE, NO_CAPACITY)
    assert (rig.load.free_blocks, rig.load.free_sequences) == (0, 4)
    rig.settle()
    assert [len(rig.tokens(number)) for number in range(4)] == [9] * 4


def test_a_draining_worker_takes_nothing_new_and_finishes_what_it_has(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=5)
    rig.engine.submit(commands.Drain(60.0))
    rig.prefill(2, prompt(5))
    rig.settle()
    assert len(rig.tokens(1)) == 5
    assert rig.end(2) == (FAILURE, DRAINING)
    assert rig.load.draining
    assert rig.engine.sequences_left() == 0


def test_a_sequence_number_is_taken_once_until_it_has_ended(rig: Rig) -> None:
    rig.prefill(1, prompt(5), max_tokens=3)
    rig.prefill(1, prompt(9), max_tokens=3)
    rig.turn()
    assert [update.outcome for update in rig.updates(1)] == [INVALID, 0]
    rig.settle()
    rig.prefill(1, prompt(9), max_tokens=1)
    rig.settle()
    assert rig.updates(1)[-1].finish == LENGTH_REACHED


# ---- a step that fails ----


class Poisoned:
    """The real decoder, but a prompt that begins with `POISON` breaks every pass it is in."""

    POISON = 666

    def __init__(self, decoder: Decoder, result: float | None) -> None:
        self.config = decoder.config
        self._decoder = decoder
        self._result = result

    def forward(self, batch: Any, kv: torch.Tensor, on_layer: Any = None) -> torch.Tensor:
        logits = self._decoder.forward(batch, kv, on_layer)
        firsts = batch.tokens[batch.cu_seqlens[:-1].long()]
        if self._result is None and (firsts == self.POISON).any():
            raise RuntimeError("out of something")
        if self._result is not None:
            logits[firsts == self.POISON] = self._result
        return logits


@pytest.mark.parametrize(
    "result",
    [None, math.nan, math.inf, -math.inf],
    ids=["an exception", "NaN everywhere", "infinity everywhere", "nothing is possible"],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "drawn"])
def test_a_request_that_breaks_its_step_fails_alone(
    make_rig: MakeRig, decoder: Decoder, result: float | None, temperature: float
) -> None:
    rig = make_rig(decoder=Poisoned(decoder, result))
    rig.prefill(1, prompt(5), max_tokens=4)
    rig.prefill(2, [Poisoned.POISON, 1, 2], max_tokens=4, temperature=temperature)
    rig.prefill(3, prompt(6), max_tokens=4)
    rig.settle()
    assert rig.end(2) == (FAILURE, FAILED)
    assert rig.tokens(1) == greedy(decoder, prompt(5), 4)
    assert rig.tokens(3) == greedy(decoder, prompt(6), 4)
    assert rig.blocks.free_blocks == 4
