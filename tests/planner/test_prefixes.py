"""Prompts that begin alike in virtual time: what is computed and sent, and where they go."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis.strategies import composite, floats, integers, sampled_from

from splitwise_core.spec_scheduling import Scheduling
from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.measured import prefixes as simulated
from splitwise_planner.measured.engine import simulate
from splitwise_planner.measured.failures import Failure
from splitwise_planner.measured.prefixes import Hits
from splitwise_planner.measured.scaling import Scaling
from splitwise_planner.measured.used import Used
from splitwise_planner.modes import AS_SPECIFIED
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace
from tests.planner.support import alike, by_request, measured_rules, trace_of, traces

DESIGNS = sampled_from(["BH-1P_T", "BH-2P_T", "HH-1P-1T", "HA-2P-1T", "AA-1P-2T", "HH-2P-2T"])

COLUMNS = ("request_id", "e2e_s", "ttft_s", "second_token_s")


def run(
    trace: Trace, design: str, *failures: Failure, blocks: int | None = None
) -> tuple[Outcome, Used]:
    """What becomes of a trace, on workers with memory for so many blocks where that is said."""
    rules = measured_rules(design)
    if blocks is not None:
        small = (replace(one, blocks=blocks) for one in (rules.prompt, rules.token))
        rules = replace(rules, **dict(zip(("prompt", "token"), small)))
    return simulate(trace, parse_design(design, load_catalog()), rules, failures)


def hits(used: Used) -> Hits:
    assert used.hits is not None
    return used.hits


def test_the_policies_are_those_that_run() -> None:
    from splitwise_router import prefixes as router
    from splitwise_worker import scheduler as worker
    from splitwise_worker.kv import prefix_cache

    assert simulated.BlockPool is worker.BlockPool
    assert simulated.most_cached is prefix_cache.most_cached
    assert simulated.PrefixIndex is router.PrefixIndex
    assert simulated.ROUTED_TOKENS == router.ROUTED_TOKENS
    assert simulated.BLOCK_TOKENS == router.BLOCK_TOKENS
    assert Scheduling().prefix_caching is AS_SPECIFIED.prefix_caching is True


def test_a_prompt_is_computed_and_sent_from_where_it_differs() -> None:
    """Of four beginnings of 512 tokens three are those of a prompt that came before."""
    trace = alike(trace_of((0.0, 2048, 4), (5.0, 2048, 4)), (1, 2, 3, 4), (1, 2, 3, 5))
    outcome, used = run(trace, "HH-1P-1T")
    own = measured_rules("HH-1P-1T").prompt
    computed_s = own.prompt.seconds(512, 512) + 70 * own.layer_push_s
    assert by_request(outcome, "ttft_s")[1] == pytest.approx(computed_s)
    last_layer_s = 512 * 4014080 / 400e9 / 70
    assert by_request(outcome, "second_token_s")[1] == pytest.approx(last_layer_s)
    assert (hits(used).compute_found, hits(used).compute_tokens) == (1536, 4096)
    assert (hits(used).transfer_found, hits(used).transfer_tokens) == (1536, 4096)
    assert hits(used).compute_share == 0.375


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        pytest.param((1, 2), (1, 2), 992, id="of the same prompt all but the last block"),
        pytest.param((1, 2), (3, 2), 0, id="nothing after another beginning"),
        pytest.param((1, 2), (), 0, id="nothing where no names are told"),
    ],
)
def test_a_block_is_found_only_behind_all_before_it_and_never_all_of_a_prompt(
    first: Sequence[int], second: Sequence[int], found: int
) -> None:
    trace = alike(trace_of((0.0, 1024, 4), (5.0, 1024, 4)), first, second)
    assert hits(run(trace, "HH-1P-1T")[1]).compute_found == found


def test_a_beginning_that_is_no_full_block_has_no_name() -> None:
    """531 tokens are 16 blocks of 32 and 19 tokens."""
    trace = alike(trace_of((0.0, 531, 4), (5.0, 531, 4)), (1, 2), (1, 2))
    assert hits(run(trace, "HH-1P-1T")[1]).compute_found == 512


def test_prompts_that_come_together_are_each_computed() -> None:
    trace = alike(trace_of((0.0, 1024, 4), (0.0, 1024, 4)), (1, 2), (1, 2))
    assert hits(run(trace, "HH-1P-1T")[1]).compute_found == 0


@pytest.mark.parametrize("second", [1, 2])
def test_a_prompt_goes_to_the_workers_that_have_its_beginning(second: int) -> None:
    """Two prompts at once go to two workers; the third has the beginning of one of them."""
    requests = trace_of((0.0, 1024, 4), (0.0, 1024, 4), (5.0, 1024, 4))
    trace = alike(requests, (10, 11), (20, 21), (10 * second, 10 * second + 2))
    found = hits(run(trace, "HH-2P-2T")[1])
    assert found.compute_found == found.transfer_found == 512


def test_what_is_not_used_for_the_longest_is_forgotten_when_its_memory_is_needed() -> None:
    """Room for two prompts: the first is used again and stays, the second is not and goes."""
    sizes = trace_of(*((5.0 * number, 1024, 2) for number in range(5)))
    trace = alike(sizes, (1, 2), (3, 4), (1, 2), (5, 6), (1, 2))
    kept = hits(run(trace, "BH-1P_T", blocks=2 * 33)[1])
    assert kept.compute_found == 2 * 992
    assert 0 < kept.evicted_blocks <= 33
    gone = alike(sizes, (1, 2), (3, 4), (1, 2), (5, 6), (3, 4))
    assert hits(run(gone, "BH-1P_T", blocks=2 * 33)[1]).compute_found < 2 * 992


def test_a_worker_that_starts_anew_has_nothing() -> None:
    trace = alike(trace_of((0.0, 1024, 4), (50.0, 1024, 4)), (1, 2), (1, 2))
    assert hits(run(trace, "HH-1P-1T", Failure(20.0, 0, 5.0))[1]).compute_found == 0
    after = hits(run(trace, "HH-1P-1T", Failure(20.0, 1, 5.0))[1])
    assert (after.compute_found, after.transfer_found) == (992, 0), "the other one keeps its own"


def test_a_router_expects_nothing_of_a_worker_that_has_started_anew() -> None:
    """The second prompt worker had the beginning. The next prompt goes to the first one all the
    same, and what it leaves there is gone with that one."""
    sizes = trace_of((0.0, 1024, 4), (0.0, 1024, 4), (20.0, 1024, 4), (40.0, 1024, 4))
    trace = alike(sizes, (10, 11), (20, 21), (20, 22), (20, 23))
    _, used = run(trace, "HH-2P-2T", Failure(10.0, 1, 2.0), Failure(30.0, 0, 2.0))
    assert hits(used).compute_found == 0


def test_a_trace_that_does_not_tell_has_no_hits() -> None:
    assert run(trace_of((0.0, 1024, 4)), "HH-1P-1T")[1].hits is None


@composite
def conversations(draw: object) -> Trace:
    """Requests of few system prompts, each with some turns in common, and a rest of their own."""
    trace: Trace = draw(traces())  # type: ignore[operator]
    ids = []
    for number, prompt in enumerate(trace.prompt_tokens.tolist()):
        names = -(-prompt // 512)
        whose, shared = draw(integers(0, 2)), draw(integers(0, 19))  # type: ignore[operator]
        own = 1000 + 100 * number
        ids.append([(100 * whose if turn < shared else own) + turn for turn in range(names)])
    return alike(trace, *ids)


@settings(max_examples=40, deadline=None)
@given(
    trace=conversations(),
    design=DESIGNS,
    blocks=sampled_from([300, 450, 2000]),
    fails_s=floats(0, 20),
    machine=integers(0, 1),
)
def test_whatever_is_shared_each_request_ends_once_and_there_is_room(
    trace: Trace, design: str, blocks: int, fails_s: float, machine: int
) -> None:
    """Blocks that were not given back would soon leave no room in so small a memory."""
    machine %= parse_design(design, load_catalog()).machines
    failure = Failure(trace.arrival_s[0] + fails_s, machine, 5.0)
    outcome, used = run(trace, design, failure, blocks=blocks)
    assert len(set(outcome.request_id.tolist())) == len(outcome.request_id)
    assert len(outcome.request_id) + used.given_up == len(trace)
    found = hits(used)
    assert 0 <= found.compute_found < found.compute_tokens
    assert 0 <= found.transfer_found <= found.transfer_tokens
    assert found.compute_tokens >= trace.prompt_tokens[outcome.request_id].sum()


@settings(max_examples=20, deadline=None)
@given(trace=conversations(), start_s=floats(0, 30))
def test_pools_that_scale_lose_nobody_whose_prompt_is_cached(trace: Trace, start_s: float) -> None:
    design, rules = parse_design("HH-2P-2T", load_catalog()), measured_rules("HH-2P-2T")
    outcome, _ = simulate(trace, design, rules, (), Scaling(1, 1, start_s))
    assert sorted(outcome.request_id.tolist()) == trace.request_id.tolist()


@settings(max_examples=15, deadline=None)
@given(trace=traces(), design=DESIGNS)
def test_prompts_that_share_nothing_fare_as_where_nothing_is_told(
    trace: Trace, design: str
) -> None:
    sizes = enumerate(trace.prompt_tokens.tolist())
    own = ([100 * number + turn for turn in range(-(-size // 512))] for number, size in sizes)
    (told, used), (untold, _) = run(alike(trace, *own), design), run(trace, design)
    for column in COLUMNS:
        assert getattr(told, column).tobytes() == getattr(untold, column).tobytes()
    assert hits(used).compute_found == hits(used).transfer_found == 0


@settings(max_examples=10, deadline=None)
@given(trace=conversations(), design=DESIGNS)
def test_same_trace_same_digits(trace: Trace, design: str) -> None:
    (first, used), (second, again) = run(trace, design), run(trace, design)
    for column in COLUMNS:
        assert getattr(first, column).tobytes() == getattr(second, column).tobytes()
    assert used == again
