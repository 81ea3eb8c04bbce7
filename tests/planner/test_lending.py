"""Pools that borrow workers of each other in virtual time: whom, and until when."""

import random
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, floats, integers, sampled_from

from splitwise_core.policy.duty import RETURN_S
from splitwise_core.policy.mixing import FIXED
from splitwise_core.spec_scheduling import Scheduling
from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.measured import fleet as simulated_router
from splitwise_planner.measured import lending as simulated_worker
from splitwise_planner.measured.engine import simulate
from splitwise_planner.measured.failures import Failure
from splitwise_planner.measured.lending import Loan
from splitwise_planner.measured.rules import BORROWING, Rules
from splitwise_planner.measured.scaling import Scaling
from splitwise_planner.measured.used import Used
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace
from tests.planner.support import by_request, measured_rules, trace_of, traces

DESIGNS = sampled_from(["HH-1P-1T", "HH-2P-2T", "HA-1P-2T", "AA-2P-1T"])


def run(
    trace: Trace, design: str, *failures: Failure, borrows: bool = True
) -> tuple[Outcome, Used]:
    rules = replace(measured_rules(design), mixing=BORROWING if borrows else FIXED)
    return simulate(trace, parse_design(design, load_catalog()), rules, failures)


def burst() -> Trace:
    """Three requests a second for two minutes, and forty long prompts within two seconds."""
    draw, at_s = random.Random(3), 0.0
    requests = [(40.0 + 0.05 * number, 6000, 20) for number in range(40)]
    while (at_s := at_s + draw.expovariate(3.0)) < 120.0:
        prompt, output = (draw.lognormvariate(0, 0.7) * size for size in (800, 150))
        requests.append((at_s, round(1 + prompt), round(1 + output)))
    return trace_of(*sorted(requests))


def loans_of(used: Used, worker: int) -> list[Loan]:
    return [loan for loan in used.loans if loan.worker == worker]


def in_order(loans: Iterable[Loan]) -> bool:
    """Whether each loan of a worker begins when those before it have ended."""
    return all(sooner.until_s <= later.from_s for sooner, later in pairwise(loans))


def test_the_policies_are_those_that_run() -> None:
    from splitwise_router import fleet as router
    from splitwise_worker import scheduler as worker

    assert simulated_worker.Duty is worker.Duty
    assert simulated_router.Mixing is router.Mixing
    assert Scheduling().borrowing is BORROWING.borrowing is True
    assert Scheduling().disaggregation == BORROWING.disaggregation


@pytest.mark.parametrize("design", ["HH-2P-4T", "HH-1P-3T"])
def test_a_burst_of_long_prompts_waits_half_as_long_when_workers_are_borrowed(design: str) -> None:
    (fixed, alone), (mixed, used) = (run(burst(), design, borrows=b) for b in (False, True))
    ratio = np.percentile(fixed.ttft_s, 99) / np.percentile(mixed.ttft_s, 99)
    assert ratio >= 2, f"P99 TTFT {ratio:.1f} times better"
    assert not alone.loans
    assert used.placements["borrowed-token-worker"] > 0


def test_a_token_worker_is_borrowed_once_for_a_burst_and_is_back_two_seconds_after_it() -> None:
    """Three prompts of 9,000 tokens: the second waits, the third finds a queue above the limit."""
    outcome, used = run(trace_of(*((0.0, 9000, 2) for _ in range(3))), "HH-1P-1T")
    (loan,) = used.loans
    assert (loan.worker, loan.pool, loan.from_s) == (1, "token", 0.0)
    last_prompt_s = max(by_request(outcome, "ttft_s"))
    assert RETURN_S <= loan.until_s <= last_prompt_s + RETURN_S


@pytest.mark.parametrize(("after_s", "borrowed"), [(1.8, 2), (60.0, 1)])
def test_who_is_borrowed_gets_more_from_half_of_the_limit_on_and_who_has_returned_does_not(
    after_s: float, borrowed: int
) -> None:
    """The last prompt finds a queue of 6,000 tokens: the limit is 8,192."""
    trace = trace_of((0.0, 9000, 2), (0.0, 9000, 2), (after_s, 6000, 2), (after_s, 6000, 2))
    _, used = run(trace, "HH-1P-1T")
    assert used.placements == {"borrowed-token-worker": borrowed, "split": 4 - borrowed}


def test_a_prompt_worker_decodes_when_no_token_worker_has_room() -> None:
    """64 answers are as many as a token worker holds; the 65th is decoded where its prompt is."""
    trace = trace_of(*((0.5 * number, 100, 3000) for number in range(70)))
    outcome, used = run(trace, "HH-1P-1T")
    assert used.placements["borrowed-prompt-worker"] > 0
    assert {loan.pool for loan in used.loans} == {"prompt"}
    ends_s = trace.arrival_s[outcome.request_id] + outcome.e2e_s
    assert used.loans[-1].until_s <= ends_s.max() + RETURN_S
    fixed, _ = run(trace, "HH-1P-1T", borrows=False)
    assert max(by_request(outcome, "queue_s")) < max(by_request(fixed, "queue_s"))


def small(pool: str, blocks: int) -> Rules:
    """Rules of HH-1P-1T whose workers of a pool have only so many blocks of KV, of 32 tokens."""
    rules = measured_rules("HH-1P-1T")
    own = replace(rules.prompt if pool == "prompt" else rules.token, blocks=blocks)
    return replace(rules, prompt=own) if pool == "prompt" else replace(rules, token=own)


@pytest.mark.parametrize(("pool", "other"), [("prompt", "token"), ("token", "prompt")])
def test_what_only_a_worker_of_the_other_pool_could_hold_goes_there(pool: str, other: str) -> None:
    rules, design = small(pool, 5), parse_design("HH-1P-1T", load_catalog())
    trace = trace_of((0.0, 300, 100))
    fixed, _ = simulate(trace, design, replace(rules, mixing=FIXED))
    assert fixed.unfinished == 1
    outcome, used = simulate(trace, design, rules)
    assert (outcome.unfinished, used.placements) == (0, {f"borrowed-{other}-worker": 1})


def test_a_prompt_worker_is_borrowed_from_the_first_token_to_two_seconds_after_the_last() -> None:
    design = parse_design("HH-1P-1T", load_catalog())
    outcome, used = simulate(trace_of((0.0, 300, 100)), design, small("token", 5))
    (loan,) = used.loans
    assert (loan.pool, loan.from_s) == ("prompt", outcome.ttft_s[0])
    assert loan.until_s == pytest.approx(outcome.e2e_s[0] + RETURN_S)


def test_baselines_lend_nobody() -> None:
    assert not run(burst(), "BH-6P_T")[1].loans


def test_a_loan_ends_with_its_worker() -> None:
    trace = trace_of(*((0.0, 9000, 2) for _ in range(6)))
    _, used = run(trace, "HH-1P-1T", Failure(0.5, 1, 30.0))
    assert loans_of(used, 1)[0].until_s == 0.5


def test_prompts_on_borrowed_workers_make_the_prompt_pool_grow() -> None:
    """As the operator counts them: see `with_lent`. Half of what comes is computed elsewhere."""
    trace = trace_of(*((0.1 * n, 1500, 2) for n in range(1200)))
    rules = measured_rules("HH-8P-3T")
    scaling = Scaling(1, 3, start_s=5.0)
    design = parse_design("HH-8P-3T", load_catalog())
    _, used = simulate(trace, design, rules, (), scaling)
    assert used.loans
    assert max(sized.prompt for sized in used.sizes) > 1


@settings(max_examples=40, deadline=None)
@given(
    trace=traces(),
    design=DESIGNS,
    fails_s=floats(0, 20),
    machine=integers(0, 1),
    fails=booleans(),
)
def test_whatever_is_borrowed_each_request_ends_once_and_each_worker_returns(
    trace: Trace, design: str, fails_s: float, machine: int, fails: bool
) -> None:
    failures = [Failure(trace.arrival_s[0] + fails_s, machine, 5.0)] if fails else []
    outcome, used = run(trace, design, *failures)
    assert len(set(outcome.request_id.tolist())) == len(outcome.request_id)
    assert len(outcome.request_id) + used.given_up == len(trace)
    ends_s = (trace.arrival_s[outcome.request_id] + outcome.e2e_s).max(initial=0.0)
    longest_down_s = 20.0
    for worker in range(4):
        loans = loans_of(used, worker)
        assert in_order(loans), "no worker is borrowed twice at once"
        assert all(loan.from_s <= loan.until_s for loan in loans)
        assert all(loan.until_s <= ends_s + longest_down_s + RETURN_S for loan in loans)
    if not fails and any(reason.startswith("borrowed") for reason in used.placements):
        assert used.loans
