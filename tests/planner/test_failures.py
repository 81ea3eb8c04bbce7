"""Machines that fail in virtual time: what is lost begins again, and nothing vanishes."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import builds, floats, integers, sampled_from

from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.measured.engine import simulate
from splitwise_planner.measured.failures import RETRIES, SILENCE_S, Failure, Faults
from splitwise_planner.measured.used import Used
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace
from tests.planner.support import by_request, measured_rules, trace_of, traces

DESIGNS = sampled_from(["BH-2P_T", "HH-2P-2T", "HA-1P-1T"])
FAULTS = builds(Faults, floats(0.5, 60), floats(0.05, 30), integers(0, 99))


def run(trace: Trace, design: str, *failures: Failure) -> tuple[Outcome, Used]:
    parsed = parse_design(design, load_catalog())
    return simulate(trace, parsed, measured_rules(design), failures)


def drawn(faults: Faults, trace: Trace) -> Sequence[Failure]:
    """While requests arrive, of as many machines as the smallest of the designs has."""
    return faults.drawn(2, trace.arrival_s.min(), trace.arrival_s.max())


def test_it_gives_up_and_notices_as_routers_do() -> None:
    from splitwise_core.spec import Router
    from splitwise_router.session import SILENCE_S as ON_ROUTERS

    assert SILENCE_S == ON_ROUTERS
    assert Router.model_fields["retries"].default == RETRIES


LONG = trace_of((0.0, 1000, 500))
"""Some 20 s of decoding, of which a tenth is over after 2 s."""


@pytest.mark.parametrize("machine", [0, 1, 2], ids=["prompts", "this one decodes", "another"])
def test_an_answer_goes_on_where_it_was_lost(machine: int) -> None:
    """Machine 1 decodes it; once its first token came, no prompt machine is needed any more."""
    calm, _ = run(LONG, "HH-1P-2T")
    outcome, used = run(LONG, "HH-1P-2T", Failure(2.0, machine, 100.0))
    assert outcome.unfinished == 0
    assert used.retries == (machine == 1)
    assert outcome.ttft_s[0] == calm.ttft_s[0], "the first token had been sent"
    lost_s = outcome.e2e_s[0] - calm.e2e_s[0]
    if machine != 1:
        assert lost_s == 0
    else:
        assert SILENCE_S < lost_s < SILENCE_S + 1, (
            "until it is missed, and a prompt; no token twice"
        )


def test_a_machine_that_is_soon_back_is_missed_when_it_is() -> None:
    calm, _ = run(LONG, "HH-1P-1T")
    outcome, used = run(LONG, "HH-1P-1T", Failure(2.0, 1, 3.0))
    assert used.retries == 1
    assert 3 < outcome.e2e_s[0] - calm.e2e_s[0] < 4


def test_nothing_is_placed_on_a_machine_that_is_missed() -> None:
    later = tuple((20.0 + n, 100, 4) for n in range(10))
    outcome, used = run(trace_of((0.0, 9, 2), *later), "BH-2P_T", Failure(1.0, 0, 1000.0))
    assert outcome.unfinished == used.retries == 0
    assert max(by_request(outcome, "queue_s")) == 0


def test_while_a_phase_is_gone_requests_wait_for_it() -> None:
    outcome, _ = run(trace_of((0.0, 9, 2), (30.0, 100, 4)), "HH-1P-1T", Failure(10.0, 0, 60.0))
    assert by_request(outcome, "queue_s")[1] == pytest.approx(40.0)


def test_a_request_that_fails_too_often_is_given_up_and_told() -> None:
    dies = [Failure(2.0 + 4 * n, 0, 1.0) for n in range(RETRIES + 1)]
    outcome, used = run(trace_of((0.0, 1000, 5000)), "BH-1P_T", *dies)
    assert (used.retries, used.given_up, outcome.unfinished) == (RETRIES, 1, 1)


def test_each_machine_has_draws_of_its_own() -> None:
    faults = Faults(50.0, 5.0, seed=3)
    few, more = faults.drawn(4, 10.0, 500.0), faults.drawn(9, 10.0, 500.0)
    assert [one for one in more if one.machine < 4] == list(few)
    assert all(10.0 <= one.at_s < 500.0 for one in more)
    assert faults.drawn(4, 10.0, 500.0) == few
    assert Faults(50.0, 5.0, seed=4).drawn(4, 10.0, 500.0) != few


@settings(max_examples=40, deadline=None)
@given(trace=traces(), design=DESIGNS, faults=FAULTS)
def test_whatever_fails_each_request_ends_once_or_is_given_up(
    trace: Trace, design: str, faults: Faults
) -> None:
    outcome, used = run(trace, design, *drawn(faults, trace))
    assert len(set(outcome.request_id.tolist())) == len(outcome.request_id)
    assert outcome.unfinished == used.given_up
    assert len(outcome.request_id) + used.given_up == len(trace)
    assert (outcome.ttft_s > 0).all()
    assert (outcome.e2e_s >= outcome.ttft_s).all()
    assert sum(used.placements.values()) == len(trace) + used.retries
    ends = trace.arrival_s[outcome.request_id] + outcome.e2e_s
    assert (np.diff(ends) >= -1e-9).all()


@settings(max_examples=5, deadline=None)
@given(trace=traces(), faults=FAULTS)
def test_same_seed_same_digits(trace: Trace, faults: Faults) -> None:
    failures = drawn(faults, trace)
    first, second = (run(trace, "HH-2P-2T", *failures) for _ in range(2))
    assert first[0].e2e_s.tobytes() == second[0].e2e_s.tobytes()
    assert first[1] == second[1]
