"""Pools that grow and shrink in virtual time: by the operator's law, and nobody is lost by it."""

import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers

from splitwise_core.errors import UserError
from splitwise_core.policy import scaling as law
from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.measured import scaling as simulated
from splitwise_planner.measured.engine import simulate
from splitwise_planner.measured.failures import Failure
from splitwise_planner.measured.scaling import Scaling, scaling_of
from splitwise_planner.measured.used import Used
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace
from tests.planner.support import measured_rules, trace_of, traces

STEADY = trace_of(*((0.1 * n, 1500, 60) for n in range(1200)))
"""15,000 prompt tokens a second for two minutes, of which an H100 computes half."""


def run(trace: Trace, design: str, scaling: Scaling, *failures: Failure) -> tuple[Outcome, Used]:
    parsed = parse_design(design, load_catalog())
    return simulate(trace, parsed, measured_rules(design), failures, scaling)


def test_the_law_is_the_operators() -> None:
    from splitwise_operator import autoscaler

    assert simulated.decide is autoscaler.decide is law.decide
    assert simulated.observe is autoscaler.observe is law.observe
    assert simulated.reading is autoscaler.reading is law.reading


def test_a_pool_grows_to_what_the_load_needs_and_no_further() -> None:
    outcome, used = run(STEADY, "HH-20P-20T", Scaling(1, 1, start_s=20.0))
    last = used.sizes[-1]
    assert outcome.unfinished == 0
    assert used.sizes[0].prompt == used.sizes[0].token == 1
    assert 1 < last.prompt < 20
    assert 1 <= last.token < 20


def test_what_starts_serves_only_when_it_has_started() -> None:
    quick, _ = run(STEADY, "HH-20P-20T", Scaling(1, 1, start_s=1.0))
    slow, _ = run(STEADY, "HH-20P-20T", Scaling(1, 1, start_s=60.0))
    assert slow.ttft_s.max() > 4 * quick.ttft_s.max()


def test_a_pool_shrinks_after_a_peak_and_ends_what_it_has() -> None:
    peak = [(0.1 * n, 2000, 50) for n in range(1200)]
    calm = [(120.0 + 5 * n, 500, 20) for n in range(240)]
    outcome, used = run(trace_of(*peak, *calm), "BH-12P_T", Scaling(2, 0, start_s=5.0))
    sizes = [sized.prompt for sized in used.sizes]
    assert outcome.unfinished == 0
    assert max(sizes) > 2
    assert sizes[-1] < max(sizes)
    assert min(sizes) >= 2


@settings(max_examples=25, deadline=None)
@given(trace=traces(), start_s=floats(0, 30), fails_s=floats(0, 40), machine=integers(0, 3))
def test_whatever_grows_or_fails_each_request_ends_once(
    trace: Trace, start_s: float, fails_s: float, machine: int
) -> None:
    failure = Failure(trace.arrival_s[0] + fails_s, machine, 5.0)
    outcome, used = run(trace, "HH-2P-2T", Scaling(1, 1, start_s), failure)
    assert len(set(outcome.request_id.tolist())) == len(outcome.request_id)
    assert len(outcome.request_id) + used.given_up == len(trace)
    assert all(1 <= sized.prompt <= 2 and 1 <= sized.token <= 2 for sized in used.sizes)


@pytest.mark.parametrize(
    ("least", "design", "said"),
    [
        ("2P", "HH-5P-5T", "write 2P-1T"),
        ("2P_T", "HH-5P-5T", "write 2P-1T"),
        ("2P-1T", "BH-5P_T", "write 2P_T"),
        ("0P-1T", "HH-5P-5T", "write 2P-1T"),
        ("6P-1T", "HH-5P-5T", "is more than HH-5P-5T has"),
    ],
)
def test_least_sizes_that_have_no_sense_are_refused(least: str, design: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        scaling_of(least, 60.0, parse_design(design, load_catalog()))
