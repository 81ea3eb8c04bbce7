"""Which part a worker plays: borrowed, returned, or better moved; and what its steps take."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.duty import RETURN_S, SHARE_S, STEPS, Duty
from splitwise_core.policy.roles import Role
from splitwise_core.policy.step_times import StepTimes

PROMPT, TOKEN = StepKind.PROMPT, StepKind.TOKEN


@pytest.mark.parametrize(
    ("role", "prompts", "decoding", "is_borrowed"),
    [
        pytest.param(Role.TOKEN, 0, 9, False, id="a token worker decodes"),
        pytest.param(Role.TOKEN, 1, 9, True, id="and is borrowed while it has a prompt"),
        pytest.param(Role.PROMPT, 9, 0, False, id="a prompt worker computes prompts"),
        pytest.param(Role.PROMPT, 9, 1, True, id="and is borrowed while something decodes there"),
        pytest.param(Role.MIXED, 9, 9, False, id="a mixed worker is nobody's to borrow"),
    ],
)
def test_borrowed(role: Role, prompts: int, decoding: int, is_borrowed: bool) -> None:
    duty = Duty(role)
    duty.look(prompts, decoding, 5.0)
    assert (duty.is_borrowed, duty.loans) == (is_borrowed, is_borrowed)


def test_it_returns_a_moment_after_its_last_foreign_work() -> None:
    duty = Duty(Role.TOKEN)
    duty.look(1, 0, 10.0)
    duty.look(0, 4, 10.0 + RETURN_S - 0.1)
    assert duty.borrowed_s(11.0) == 1.0
    duty.look(0, 4, 10.0 + RETURN_S)
    assert (duty.is_borrowed, duty.borrowed_s(99.0)) == (False, 0.0)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), max_size=60))
def test_what_comes_in_pieces_is_no_loan_for_each(looks: list[tuple[bool, float]]) -> None:
    duty, now_s = Duty(Role.TOKEN), 0.0
    for has_prompt, after_s in looks:
        now_s += after_s
        duty.look(int(has_prompt), 1, now_s)
        if has_prompt:
            assert duty.is_borrowed
    assert duty.loans <= 1 + now_s / RETURN_S
    duty.look(0, 1, now_s + 2 * RETURN_S)
    assert not duty.is_borrowed, "what is drained goes back"


def work(duty: Duty, kinds: Sequence[StepKind], seconds: float) -> float:
    """Steps of one second in turns, a prompt always waiting; when the last has ended."""
    for number in range(int(seconds)):
        duty.look(1, 1, float(number))
        duty.worked(kinds[number % len(kinds)], 1, 1.0, number + 1.0)
    return seconds


@pytest.mark.parametrize(
    ("kinds", "seconds", "proposed"),
    [
        pytest.param([PROMPT], 59, False, id="a short loan proposes nothing"),
        pytest.param([PROMPT], 61, True, id="a long one does"),
        pytest.param([TOKEN, TOKEN, PROMPT], 200, False, id="not when it is mostly its own work"),
        pytest.param([PROMPT, PROMPT, TOKEN], 200, True, id="but when it is mostly the other's"),
    ],
)
def test_proposal(kinds: Sequence[StepKind], seconds: float, proposed: bool) -> None:
    duty = Duty(Role.TOKEN, repurpose_s=60.0)
    assert duty.should_change(work(duty, kinds, seconds)) == proposed


def test_of_a_step_of_both_decoding_took_what_it_takes_alone() -> None:
    duty = Duty(Role.TOKEN, repurpose_s=60.0)
    assert duty.worked_mixed(90, 10, 2.0, 2.0) == pytest.approx(0.2), "nothing is known: by tokens"
    for sequences in (4, 8) * 50:
        duty.worked(TOKEN, sequences, 0.01 + 0.001 * sequences, 2.0)
    before_s = duty.steps.of(6)
    assert duty.worked_mixed(90, 6, 2.0, 2.0) == pytest.approx(0.016, rel=0.01)
    assert duty.worked_mixed(90, 6, 0.001, 2.0) == 0.001, "no more than there was"
    assert duty.steps.of(6) == before_s, "it says nothing of steps of tokens alone"


def test_a_worker_that_has_returned_proposes_nothing() -> None:
    duty = Duty(Role.TOKEN, repurpose_s=60.0)
    now_s = work(duty, [PROMPT], 90)
    duty.look(0, 1, now_s + RETURN_S)
    assert not duty.should_change(now_s + RETURN_S)


def test_the_share_of_prompts_is_of_the_time_and_fades() -> None:
    duty = Duty(Role.PROMPT)
    work(duty, [PROMPT], 20 * SHARE_S)
    assert duty.prompt_share(20 * SHARE_S) > 0.9
    assert not duty.is_settled(21 * SHARE_S)
    assert duty.prompt_share(30 * SHARE_S) == 0.0


@given(st.floats(0.001, 1), st.floats(0.0001, 0.1), st.permutations([1, 2, 5, 9, 16, 30]))
def test_the_line_through_steps_is_found(base_s: float, slope_s: float, sizes: list[int]) -> None:
    times = StepTimes(STEPS)
    for size in sizes:
        times.note(size, base_s + slope_s * size)
    assert times.slope_s == pytest.approx(slope_s, rel=1e-3)
    assert times.base_s == pytest.approx(base_s, rel=0.1, abs=1e-3)


def test_steps_that_are_alike_tell_no_slope() -> None:
    times = StepTimes(STEPS)
    assert (times.base_s, times.slope_s) == (0.0, 0.0)
    for _ in range(9):
        times.note(8, 0.04)
    assert (times.base_s, times.slope_s) == (pytest.approx(0.04), 0.0)
