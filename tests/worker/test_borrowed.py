"""A worker of one phase that is given the work of the other: done alike, told, and counted."""

import pytest

from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.duty import RETURN_S, Duty
from splitwise_core.policy.roles import Role
from splitwise_worker.model.decoder import Decoder
from tests.worker.conftest import MakeRig
from tests.worker.support import Rig, greedy, prompt

BORROWED, LOANS = "splitwise_worker_borrowed_workers", "splitwise_worker_loans_total"
MISPLACED = "splitwise_worker_misplaced_workers"


def shown(rig: Rig) -> tuple[float, float]:
    """Borrowed or not, and how often so far."""
    return rig.sample(BORROWED), rig.sample(LOANS)


@pytest.mark.parametrize("role", [Role.PROMPT, Role.TOKEN])
def test_a_borrowed_worker_serves_both_phases_and_returns(
    make_rig: MakeRig, decoder: Decoder, role: Role
) -> None:
    rig = make_rig(duty=Duty(role))
    assert not rig.load.borrowed
    rig.prefill(1, prompt(20), max_tokens=6)
    rig.turn()
    rig.turn()
    assert rig.load.borrowed
    assert shown(rig) == (1, 1)
    rig.settle()
    assert rig.tokens(1) == greedy(decoder, prompt(20), 6)
    assert rig.load.borrowed, "what comes next would still find it so"
    rig.now += RETURN_S
    rig.turn()
    assert not rig.load.borrowed
    assert shown(rig) == (0, 1)


def test_who_decodes_on_a_borrowed_worker_is_not_disturbed_in_what_it_says(
    make_rig: MakeRig, decoder: Decoder
) -> None:
    rig = make_rig(duty=Duty(Role.TOKEN), blocks=24, block_tokens=8, chunk_tokens=8)
    rig.decode(1, prompt(9), "t", max_tokens=20)
    rig.turn()
    rig.verified("t", greedy(decoder, prompt(9), 1))
    rig.turn()
    rig.prefill(2, prompt(40, first=9), max_tokens=5)
    rig.settle()
    assert rig.tokens(2) == greedy(decoder, prompt(40, first=9), 5)
    assert len(rig.tokens(1)) == 19


def test_a_worker_of_its_own_phase_is_not_borrowed(make_rig: MakeRig) -> None:
    rig = make_rig(duty=Duty(Role.PROMPT))
    rig.prefill(1, prompt(20), transfer="t", max_tokens=6)
    rig.settle()
    rig.transfer_ended("t")
    rig.settle()
    assert not rig.load.borrowed
    assert shown(rig) == (0, 0)


def test_a_worker_that_has_long_done_the_others_work_proposes_to_change(make_rig: MakeRig) -> None:
    rig = make_rig(duty=Duty(Role.TOKEN, repurpose_s=60.0))
    rig.prefill(1, prompt(20), max_tokens=30)
    rig.turn()
    rig.now += 59.0
    rig.scheduler.duty.worked(StepKind.PROMPT, 1, 50.0, rig.now)
    rig.prefill(2, prompt(20), max_tokens=2)
    rig.turn()
    assert (rig.load.should_change, rig.sample(MISPLACED)) == (False, 0)
    rig.now += 1.0
    rig.turn()
    assert (rig.load.should_change, rig.sample(MISPLACED)) == (True, 1)
