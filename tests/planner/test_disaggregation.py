"""Requests that stay on one worker in virtual time, where that is cheaper or is always so."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis.strategies import sampled_from

from splitwise_core.policy.mixing import Disaggregation, Mixing
from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.measured import told
from splitwise_planner.measured.engine import simulate
from splitwise_planner.measured.failures import Failure
from splitwise_planner.measured.used import Used
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace
from tests.planner.support import measured_rules, trace_of, traces

AUTO, NEVER = Disaggregation.AUTO, Disaggregation.NEVER


def run(
    trace: Trace, design: str, how: Disaggregation, *failures: Failure, borrows: bool = True
) -> tuple[Outcome, Used]:
    rules = replace(measured_rules(design), mixing=Mixing(borrows, how))
    return simulate(trace, parse_design(design, load_catalog()), rules, failures)


def prompts_that_queue() -> Trace:
    """More prompts than one worker computes in time, and little to decode."""
    return trace_of(*((0.1 * n, 1500, 8) for n in range(300)))


def test_the_policies_are_those_that_run() -> None:
    from splitwise_router import columns as router
    from splitwise_worker import scheduler as worker

    assert told.Duty is worker.Duty
    assert told.stage_view is router.stage_view


def test_auto_computes_prompts_on_idle_token_workers() -> None:
    """No pool is crowded: borrowing would not have begun yet."""
    always, apart = run(prompts_that_queue(), "HH-1P-3T", Disaggregation.ALWAYS)
    auto, together = run(prompts_that_queue(), "HH-1P-3T", AUTO, borrows=False)
    assert "cheaper-together" not in apart.placements
    assert together.placements["cheaper-together"] > 100
    assert np.percentile(auto.ttft_s, 99) < np.percentile(always.ttft_s, 99) / 2


def test_auto_without_borrowing_decodes_on_no_prompt_worker() -> None:
    trace = trace_of(*((0.5 * number, 100, 3000) for number in range(70)))
    _, used = run(trace, "HH-1P-1T", AUTO, borrows=False)
    assert {loan.pool for loan in used.loans} <= {"token"}


def test_never_moves_nothing() -> None:
    outcome, used = run(prompts_that_queue(), "HH-1P-3T", NEVER)
    assert used.placements == {"one-worker": 300}
    assert outcome.unfinished == 0


def test_baselines_are_as_they_are_with_auto() -> None:
    trace = prompts_that_queue()
    always, _ = run(trace, "BH-4P_T", Disaggregation.ALWAYS)
    auto, _ = run(trace, "BH-4P_T", AUTO)
    assert always.e2e_s.tolist() == auto.e2e_s.tolist()


@settings(max_examples=40, deadline=None)
@given(
    trace=traces(),
    design=sampled_from(["HH-1P-1T", "HH-2P-2T", "HA-1P-2T", "BH-3P_T"]),
    how=sampled_from([AUTO, NEVER]),
    fails=sampled_from([(), (Failure(1.0, 0, 5.0),), (Failure(2.0, 1, 5.0),)]),
)
def test_whatever_stays_together_each_request_ends_once(
    trace: Trace, design: str, how: Disaggregation, fails: tuple[Failure, ...]
) -> None:
    outcome, used = run(trace, design, how, *fails)
    assert len(set(outcome.request_id.tolist())) == len(outcome.request_id)
    assert len(outcome.request_id) + used.given_up == len(trace)
    again, _ = run(trace, design, how, *fails)
    assert again.e2e_s.tolist() == outcome.e2e_s.tolist(), "same digits"
