"""Who is taken in, who runs next, and that the books of blocks and sequences are right."""

import pytest

from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.block_pool import BlockPool
from splitwise_worker.sampling import SamplingParams
from splitwise_worker.scheduler import Scheduler, Tally, Work
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey

BLOCK = 16


def scheduler(blocks: int = 1000, sequences: int = 100) -> Scheduler:
    return Scheduler(BlockPool(blocks), BLOCK, sequences)


def sequence(number: int, tokens: int = 10, phase: Phase = Phase.WAITING) -> LiveSequence:
    return LiveSequence(
        key=SequenceKey(1, number),
        request_id=str(number),
        prompt_tokens=[1] * tokens,
        output_tokens=[],
        params=SamplingParams(max_tokens=8),
        phase=phase,
        arrived_s=0.0,
        deadline_s=1.0,
    )


def admitted(
    to: Scheduler, *sizes: int, phase: Phase = Phase.WAITING, first: int = 0
) -> list[LiveSequence]:
    found = [sequence(first + i, size, phase) for i, size in enumerate(sizes)]
    for one in found:
        assert to.admit(one, one.num_tokens)
    return found


def numbers(to: Scheduler) -> list[int]:
    return [s.key.number for s in to.next_work().sequences]


@pytest.mark.parametrize(
    ("tokens", "blocks"), [(1, 1), (16, 1), (17, 2), (160, 10)], ids=lambda value: str(value)
)
def test_a_sequence_holds_the_blocks_that_its_tokens_need(tokens: int, blocks: int) -> None:
    s = scheduler(blocks=10)
    (one,) = admitted(s, tokens)
    assert len(one.blocks) == blocks
    assert s.blocks.free_blocks == 10 - blocks


def test_who_finds_too_few_blocks_is_not_taken_in_and_holds_nothing() -> None:
    s = scheduler(blocks=2)
    assert not s.admit(sequence(1), 33)
    assert (s.blocks.free_blocks, len(s)) == (2, 0)
    assert s.admit(sequence(1), 32), "what fits is taken in afterwards"


def test_who_finds_too_many_sequences_is_not_taken_in_and_holds_nothing() -> None:
    s = scheduler(sequences=1)
    (first,) = admitted(s, 1)
    assert not s.admit(sequence(2), 1)
    assert (s.blocks.free_blocks, s.free_sequences) == (999, 0)
    s.release(first)
    assert (s.blocks.free_blocks, s.free_sequences) == (1000, 1)


def slowed(step_s: float, prompt_s: float = 0.0) -> Scheduler:
    """Four sequences decode, and each should have a token in 100 ms."""
    s = Scheduler(BlockPool(1000), 16, 64, max_tbt_s=0.1)
    admitted(s, *[16] * 4, phase=Phase.RUNNING)
    for _ in range(50):
        if prompt_s:
            s.computed(Work(StepKind.PROMPT, (sequence(100),), (16,), 1), prompt_s)
        work = s.next_work()
        assert (work.kind, len(work.sequences)) == (StepKind.TOKEN, 4)
        s.computed(work, step_s)
    return s


def test_no_more_are_taken_in_than_get_their_tokens_in_time() -> None:
    s = slowed(step_s=0.04)
    assert s.free_sequences == s.census().free_sequences == 4
    assert len(admitted(s, *[16] * 4, first=10)) == 4
    assert not s.admit(sequence(20), 16)


def test_steps_that_are_too_slow_let_nobody_in_and_send_nobody_away() -> None:
    s = slowed(step_s=0.5)
    assert (s.free_sequences, len(s), s.census().most_sequences) == (0, 4, 2)
    assert not s.admit(sequence(20), 16)


def test_a_prompt_between_two_steps_makes_their_sequences_wait() -> None:
    assert slowed(step_s=0.02, prompt_s=0.06).free_sequences == 0


def test_a_prompt_that_leaves_takes_nobodys_place() -> None:
    s = slowed(step_s=0.04)
    leaving = sequence(20)
    leaving.transfer_id, leaving.peer = "t", "there:1"
    assert s.admit(leaving, 16)
    assert s.free_sequences == 4


def test_prompts_run_in_the_order_of_their_arrival() -> None:
    s = scheduler()
    for first in admitted(s, 1000, 1000, 1000, 1000):
        assert s.next_work().sequences[0] is first
        s.release(first)


@pytest.mark.parametrize(
    ("sizes", "batch"),
    [
        pytest.param([1024, 1024, 1], [0, 1], id="2,048 prompt tokens are a batch"),
        pytest.param([1024, 1025, 1], [0], id="the cap is never passed"),
        pytest.param([1000, 1049, 1], [0], id="a small one does not overtake a large one"),
        pytest.param([3000, 1], [0], id="one above the cap runs alone"),
        pytest.param([5, 6, 7], [0, 1, 2], id="small ones run together"),
    ],
)
def test_a_batch_of_prompts(sizes: list[int], batch: list[int]) -> None:
    s = scheduler()
    admitted(s, *sizes)
    assert numbers(s) == batch


def test_all_that_decode_run_in_one_step() -> None:
    s = scheduler()
    admitted(s, 10, 20, 30, phase=Phase.RUNNING)
    work = s.next_work()
    assert (work.kind, len(work.sequences)) == (StepKind.TOKEN, 3)


def test_prompts_go_first_but_from_the_second_step_on_each_is_of_tokens_too() -> None:
    s = scheduler()
    prompts = admitted(s, *[2048] * 6)
    (decoding,) = admitted(s, 1, phase=Phase.RUNNING, first=50)
    kinds = []
    for _ in range(5):
        work = s.next_work()
        kinds.append(work.kind)
        prompts[0].computed_tokens += work.tokens[0]
        if not prompts[0].tokens_to_compute:
            s.move(prompts.pop(0), Phase.SENDING)
        assert work.sequences[work.prompts :] == (decoding,) * (work.kind is StepKind.MIXED)
    assert kinds == [StepKind.PROMPT] + [StepKind.MIXED] * 4


@pytest.mark.parametrize("phase", [Phase.SENDING, Phase.ARRIVING, Phase.CLOSING])
def test_who_waits_for_the_sidecar_never_runs(phase: Phase) -> None:
    s = scheduler()
    admitted(s, 10, phase=phase)
    assert s.next_work().sequences == ()


def test_a_move_puts_a_sequence_behind_the_others_of_its_new_phase() -> None:
    s = scheduler()
    first, _ = admitted(s, 1, 1, phase=Phase.RUNNING)
    (late,) = admitted(s, 1, phase=Phase.ARRIVING, first=7)
    s.move(late, Phase.RUNNING)
    assert numbers(s) == [0, 1, 7]
    s.move(first, Phase.CLOSING)
    assert numbers(s) == [1, 7]


def test_a_sequence_is_found_in_every_phase_until_it_is_released() -> None:
    s = scheduler()
    (one,) = admitted(s, 1)
    for phase in Phase:
        s.move(one, phase)
        assert s.find(one.key) is one
        assert (len(s), list(s)) == (1, [one])
    s.release(one)
    assert s.find(one.key) is None
    assert (len(s), list(s)) == (0, [])


def test_the_census_counts_sequences_tokens_and_blocks_of_each_phase() -> None:
    s = scheduler(blocks=20, sequences=9)
    admitted(s, 10, 17)
    admitted(s, 40, phase=Phase.RUNNING, first=5)[0].output_tokens.append(3)
    census = s.census()
    assert census.phases[Phase.WAITING] == Tally(sequences=2, tokens=27, blocks=3)
    assert census.phases[Phase.RUNNING] == Tally(sequences=1, tokens=41, blocks=3)
    assert census.phases[Phase.CLOSING] == Tally(0, 0, 0)
    assert (census.free_blocks, census.free_sequences) == (14, 6)


def test_sequences_may_leave_while_all_are_gone_through() -> None:
    s = scheduler()
    admitted(s, 1, 2, 3)
    for one in s:
        s.release(one)
    assert (len(s), s.blocks.free_blocks) == (0, 1000)
