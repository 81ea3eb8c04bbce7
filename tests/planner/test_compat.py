"""The released simulator's rules, by hand: what a request alone takes, who waits for whom."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import composite, floats, integers, lists, sampled_from, tuples

from splitwise_planner.catalog import load_catalog
from splitwise_planner.outcome import Outcome
from splitwise_planner.phase_times import interpolated, knots_of, load_phase_times
from splitwise_planner.trace import Trace
from tests.planner.support import by_request, simulated, trace_of

EXAMPLE = trace_of((1.0, 4096, 32), (3.0, 2048, 8), (4.0, 2048, 16))
"""The trace of the released notebook's example, whose results it prints."""

KV_BYTES = 2 * 70 * 14336 * 2  # of a token of BLOOM-176B
GIB = 1024**3

H100 = knots_of(load_phase_times(), "bloom-176b", "h100-80gb", 8)


def prompt_s(tokens: int) -> float:
    return float(interpolated(H100.tokens, H100.prompt_s, np.array([float(tokens)]))[0])


def decode_s(sequences: int) -> float:
    return float(interpolated(H100.tokens, H100.token_s, np.array([float(sequences)]))[0])


@pytest.mark.parametrize(
    ("design", "e2e_s"),
    [
        pytest.param("BH-1P_T", [1.744743, 0.499255, 0.781873], id="both phases on one machine"),
        pytest.param("HA-1P-1T", [2.199226, 0.622873, 1.003019], id="an A100 decodes"),
    ],
)
def test_the_released_example_takes_what_its_notebook_prints(
    design: str, e2e_s: list[float]
) -> None:
    assert by_request(simulated(EXAMPLE, design), "e2e_s") == pytest.approx(e2e_s, abs=1e-6)


def test_a_request_alone_is_a_prompt_a_transfer_and_its_tokens() -> None:
    outcome = simulated(trace_of((5.0, 1000, 11)), "HH-1P-1T")
    transfer_s = 1000 * KV_BYTES / (200 * GIB)
    assert outcome.queue_s[0] == 0
    assert outcome.ttft_s[0] == pytest.approx(prompt_s(1000))
    assert outcome.second_token_s[0] == pytest.approx(transfer_s)
    assert outcome.e2e_s[0] == pytest.approx(prompt_s(1000) + transfer_s + 10 * decode_s(1))


def test_time_between_tokens_is_over_all_tokens() -> None:
    outcome = simulated(trace_of((0.0, 512, 5)), "BH-1P_T")
    assert outcome.tbt_s[0] == pytest.approx((outcome.e2e_s[0] - outcome.ttft_s[0]) / 5)


def test_prompts_that_wait_run_together_up_to_2048_tokens() -> None:
    trace = trace_of((0.0, 512, 2), (0.01, 1024, 2), (0.02, 1024, 2), (0.03, 512, 2))
    queue_s = by_request(simulated(trace, "HH-1P-1T"), "queue_s")
    first, second = prompt_s(512), prompt_s(512) + prompt_s(2048)
    assert queue_s == pytest.approx([0, first - 0.01, first - 0.02, second - 0.03])


def test_a_prompt_cuts_iterations_short_and_slows_the_batch_that_it_joins() -> None:
    trace = trace_of((0.0, 128, 100), (1.0, 256, 2))
    outcome = simulated(trace, "BH-1P_T")
    done = np.ceil((1.0 - prompt_s(128)) / decode_s(1))
    joined = prompt_s(128) + done * decode_s(1)
    assert by_request(outcome, "queue_s")[1] == pytest.approx(joined - 1.0)
    assert by_request(outcome, "ttft_s")[1] == pytest.approx(joined + 1.1 * prompt_s(257) - 1.0)


def test_of_equal_machines_the_first_is_taken_and_then_the_one_with_less_to_do() -> None:
    trace = trace_of((0.0, 2000, 2), (0.0, 100, 2), (0.001, 100, 2))
    queue_s = by_request(simulated(trace, "HH-2P-1T"), "queue_s")
    assert queue_s[:2] == [0, 0]
    assert queue_s[2] == pytest.approx(prompt_s(100) - 0.001)


def test_a_full_prompt_pool_borrows_a_token_machine() -> None:
    trace = trace_of((0.0, 8000, 2), (0.01, 100, 2), (0.02, 200, 2))
    queue_s = by_request(simulated(trace, "HH-1P-2T"), "queue_s")
    assert queue_s[1] > 0, "waits behind the long prompt, as the queue was empty"
    assert queue_s[2] == 0, "8,300 tokens would be pending there: a token machine computes it"


def test_what_never_fits_is_counted_and_holds_nobody_else_up_elsewhere() -> None:
    outcome = simulated(trace_of((0.0, 200_000, 2), (0.1, 100, 2)), "BH-2P_T")
    assert outcome.unfinished == 1
    assert outcome.request_id.tolist() == [1]


@composite
def traces(draw: object) -> Trace:
    """Bursts of small, large and equal requests, some at the same moment."""
    sizes = sampled_from([1, 100, 512, 1500, 4000, 9000])
    gaps = sampled_from([0.0, 0.0, 0.01, 0.25]) | floats(0, 2)
    row = tuples(gaps, sizes, sampled_from([2, 8, 60]) | integers(1, 300))
    rows = draw(lists(row, min_size=1, max_size=60))  # type: ignore[operator]
    arrivals = np.cumsum([gap for gap, _, _ in rows])
    return trace_of(*((float(at), p, o) for at, (_, p, o) in zip(arrivals, rows)))


DESIGNS = sampled_from(["BH-1P_T", "BA-3P_T", "HH-1P-1T", "HA-2P-1T", "AA-1P-2T", "HHcap-2P-2T"])


@settings(max_examples=40)
@given(trace=traces(), design=DESIGNS)
def test_whatever_arrives_each_request_ends_once_and_in_time(trace: Trace, design: str) -> None:
    outcome = simulated(trace, design)
    assert sorted(outcome.request_id.tolist()) == trace.request_id.tolist()
    assert outcome.unfinished == 0
    assert (outcome.queue_s >= 0).all()
    assert (outcome.ttft_s > outcome.queue_s).all()
    assert (outcome.e2e_s >= outcome.ttft_s).all()
    ends = trace.arrival_s[outcome.request_id] + outcome.e2e_s
    assert (np.diff(ends) >= -1e-9).all(), "requests are listed as they end"


@settings(max_examples=15)
@given(trace=traces(), design=DESIGNS)
def test_same_trace_same_digits(trace: Trace, design: str) -> None:
    first, second = simulated(trace, design), simulated(trace, design)
    for column in ("request_id", "e2e_s", "ttft_s", "second_token_s"):
        assert getattr(first, column).tobytes() == getattr(second, column).tobytes()


def test_thousands_may_wait_at_one_machine() -> None:
    outcome = simulated(trace_of(*((0.001 * i, 64, 2) for i in range(4000))), "BA-1P_T")
    assert outcome.unfinished == 0
    assert outcome.queue_s.max() > 10


def test_the_capped_machine_is_slow_at_prompts_alone() -> None:
    trace = trace_of((0.0, 1000, 50))
    times = load_phase_times()
    capped = load_catalog().machines["dgx-h100-capped"]
    own = knots_of(times, "bloom-176b", capped.gpu, 8, capped.prompt_slowdown)
    assert own.token_s.tolist() == H100.token_s.tolist()
    assert own.prompt_s == pytest.approx(1.3 * H100.prompt_s)
    ratio = _second_phase(simulated(trace, "HHcap-1P-1T")) / _second_phase(
        simulated(trace, "HH-1P-1T")
    )
    assert ratio == pytest.approx(1)


def _second_phase(outcome: Outcome) -> float:
    return float(outcome.e2e_s[0] - outcome.ttft_s[0])
