"""Our own policies in virtual time: what a request takes, who waits, and that it is what runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, sampled_from, tuples

from splitwise_core.policy.link import Link
from splitwise_core.policy.links import LinkView
from splitwise_core.policy.routing import FleetView, Members, Role, place
from splitwise_core.spec_pool import Pool
from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import parse_design
from splitwise_planner.measured import fleet as simulated_router
from splitwise_planner.measured import network as simulated_links
from splitwise_planner.measured import worker as simulated_worker
from splitwise_planner.measured.engine import simulate
from splitwise_planner.measured.rules import BLOCK_TOKENS, MAX_SEQUENCES, rules_for
from splitwise_planner.measured.used import Used
from splitwise_planner.outcome import Outcome
from splitwise_planner.phase_times import knots_of, load_phase_times
from splitwise_planner.slo import reference_for
from splitwise_planner.trace import Trace
from tests.planner.support import by_request, measured_rules, trace_of, traces


def run(trace: Trace, design: str, model: str = "bloom-176b") -> tuple[Outcome, Used]:
    return simulate(trace, parse_design(design, load_catalog()), measured_rules(design, model))


def test_what_is_simulated_is_what_runs() -> None:
    """The router and the worker call the very same functions."""
    from splitwise_core.policy import links
    from splitwise_router import columns
    from splitwise_router import fleet as router
    from splitwise_worker import scheduler as worker

    assert simulated_router.place is router.place
    assert simulated_router.is_committed is columns.is_committed
    assert simulated_router.FleetView is columns.FleetView
    assert simulated_worker.next_step is worker.next_step
    assert simulated_worker.Preempted is worker.Preempted
    assert simulated_worker.PromptSpeed is worker.PromptSpeed
    assert simulated_links.seen_s is links.seen_s


def test_its_limits_are_those_of_the_spec() -> None:
    from splitwise_worker.loaded import BLOCK_TOKENS as ON_WORKERS

    assert Pool.model_fields["max_sequences"].default == MAX_SEQUENCES
    assert BLOCK_TOKENS == ON_WORKERS


def test_a_request_alone_is_a_prompt_a_transfer_and_its_steps() -> None:
    prompt, output = 2000, 11
    own = measured_rules("HH-1P-1T")
    outcome, used = run(trace_of((5.0, prompt, output)), "HH-1P-1T")
    computed_s = own.prompt.prompt.seconds(prompt, prompt) + 70 * own.prompt.layer_push_s
    last_layer_s = prompt * 4014080 / 400e9 / 70
    steps_s = own.token.decode.seconds_of(output - 1, 1, prompt + 1)
    assert outcome.queue_s[0] == 0
    assert outcome.ttft_s[0] == pytest.approx(computed_s)
    assert outcome.second_token_s[0] == pytest.approx(last_layer_s)
    assert outcome.e2e_s[0] == pytest.approx(computed_s + last_layer_s + steps_s)
    assert used.placements == {"split": 1}
    assert used.beyond_measured == 0


def costly(trace: Trace, request_s: float, transfer_latency_s: float) -> tuple[Outcome, Outcome]:
    """What becomes of a trace where neither costs anything, and where both cost that much."""
    catalog = load_catalog()
    bare = parse_design("HH-1P-1T", catalog)
    machine = replace(
        bare.prompt_machine, request_s=request_s, transfer_latency_s=transfer_latency_s
    )
    slowed = replace(bare, prompt_machine=machine, token_machine=machine)
    (before, _), (after, _) = (
        simulate(
            trace,
            design,
            rules_for(load_phase_times(), "bloom-176b", catalog.model("bloom-176b"), design),
        )
        for design in (bare, slowed)
    )
    return before, after


def test_what_a_request_and_a_transfer_cost_beside_comes_on_top() -> None:
    """As a profile of a running cluster has it in the catalogue."""
    before, after = costly(trace_of((0.0, 1000, 5), (9.0, 700, 5)), 0.25, 0.125)
    for column, more_s in (("ttft_s", 0.25), ("second_token_s", 0.125), ("e2e_s", 0.375)):
        was, now = by_request(before, column), by_request(after, column)
        assert now == [pytest.approx(one + more_s) for one in was]


def test_transfers_of_prompts_that_end_together_wait_for_each_other() -> None:
    """A worker has one sidecar, which goes to and fro between those that it has to see to."""
    trace = trace_of((0.0, 300, 9), *((0.001, 300, 9) for _ in range(3)))  # alone, then three
    before, after = costly(trace, 0.0, 5.0)
    was, now = by_request(before, "second_token_s"), by_request(after, "second_token_s")
    assert max(was) < 0.1, "for their bytes alone"
    assert now[0] == pytest.approx(was[0] + 5.0)
    later_s = (by_request(before, "ttft_s")[1] + 0.001) - by_request(before, "ttft_s")[0]
    done = pytest.approx(5.0 - later_s + 3 * 5.0, abs=0.05)  # and a step that the first one begins
    assert now[1:] == [done] * 3


def test_a_model_that_was_not_measured_on_an_a100_has_a_reference_of_its_own() -> None:
    model = replace(load_catalog().model("bloom-176b"), reference_gpu="h100-80gb")
    times = load_phase_times()
    own = reference_for(times, "bloom-176b", model)
    assert own.prompt_s.tolist() == knots_of(times, "bloom-176b", "h100-80gb", 8).prompt_s.tolist()


def test_a_short_prompt_is_pushed_at_its_end() -> None:
    own = measured_rules("HH-1P-1T")
    assert 400 < own.prompt.layerwise_min < 600, "the paper has 512 tokens on its H100s"
    outcome, _ = run(trace_of((0.0, 300, 5)), "HH-1P-1T")
    assert outcome.second_token_s[0] == pytest.approx(300 * 4014080 / 400e9)
    assert outcome.ttft_s[0] == pytest.approx(own.prompt.prompt.seconds(300, 300))


def test_transfers_to_one_worker_wait_for_each_other() -> None:
    """Two prompts that end together on two workers, below the size that goes by layer."""
    trace = trace_of((0.0, 400, 2), (0.0, 400, 2))
    transfer_s = 400 * 4014080 / 400e9
    waits = by_request(run(trace, "HH-2P-1T")[0], "second_token_s")
    assert waits[0] == pytest.approx(transfer_s)
    assert waits[1] >= 2 * transfer_s * (1 - 1e-9)


def test_grouped_queries_take_the_memory_that_they_take() -> None:
    """Eight heads of keys and values of 64: an eighth of what the released simulator counts."""
    model = load_catalog().model("llama2-70b")
    assert model.kv_bytes_per_token == 2 * 80 * 8 * 128 * 2
    own = measured_rules("HH-1P-1T", "llama2-70b")
    free = 0.9 * 8 * 80 * 1024**3 - 135e9
    assert own.token.blocks == int(free // (BLOCK_TOKENS * model.kv_bytes_per_token))


def test_a_machine_has_as_many_workers_as_its_gpus_make() -> None:
    four, two = (
        measured_rules("HH/4-1P-1T", "llama2-70b"),
        measured_rules("HH/2-1P-1T", "llama2-70b"),
    )
    assert (four.workers, two.workers) == (2, 4)
    trace = trace_of(*((0.0, 1000, 4) for _ in range(2)))
    queue_s = by_request(run(trace, "HH/4-1P-1T", "llama2-70b")[0], "queue_s")
    assert queue_s == [0, 0], "one on each worker of the machine"


def test_workers_of_a_machine_share_its_network() -> None:
    half, whole = (
        measured_rules("HH/4-1P-1T", "llama2-70b"),
        measured_rules("HH-1P-1T", "llama2-70b"),
    )
    assert half.prompt.link.bytes_per_s == whole.prompt.link.bytes_per_s / 2


def test_a_mixed_worker_computes_a_prompt_in_chunks_beside_what_it_decodes() -> None:
    own = measured_rules("BH-1P_T")
    alone = run(trace_of((0.0, 128, 60)), "BH-1P_T")[0]
    beside, _ = run(trace_of((0.0, 128, 60), (1.0, 2048, 2)), "BH-1P_T")
    chunk_s, step_s = own.prompt.prompt.seconds(512, 512), own.prompt.decode.seconds(1, 150)
    late_s = by_request(beside, "e2e_s")[0] - alone.e2e_s[0]
    wanted_s = 4 * chunk_s - 3 * step_s
    assert late_s == pytest.approx(wanted_s, rel=0.02), "the last three chunks bring tokens too"


def test_a_request_that_no_worker_could_ever_hold_is_counted_and_holds_up_nobody() -> None:
    outcome, _ = run(trace_of((0.0, 900_000, 2), (0.1, 100, 2)), "HH-1P-1T")
    assert outcome.unfinished == 1
    assert outcome.request_id.tolist() == [1]


def test_batches_beyond_what_was_measured_are_told() -> None:
    trace = trace_of(*((0.0, 3000, 50) for _ in range(20)))
    assert run(trace, "HH-8P-1T")[1].beyond_measured > 0.05, "60,000 tokens in one batch"
    assert run(trace_of((0.0, 3000, 50)), "HH-8P-1T")[1].beyond_measured == 0


def test_power_is_that_of_the_phases() -> None:
    _, used = run(trace_of((0.0, 1000, 20)), "HH-1P-1T")
    busy_s = used.seconds
    assert used.joules is not None
    assert 2 * 8 * 75 * busy_s < used.joules < 8 * (700 + 380) * busy_s
    capped = run(trace_of((0.0, 1000, 20)), "HH@50-1P-1T")[1].joules
    assert capped is not None
    assert capped < used.joules


def test_a_capped_token_machine_decodes_as_fast_and_costs_less_power() -> None:
    catalog = load_catalog()
    free, capped = (parse_design(name, catalog) for name in ("HH-5P-5T", "HH@50-5P-5T"))
    paper = parse_design("HHcap-5P-5T", catalog)
    assert capped.power_units == pytest.approx(paper.power_units)
    assert capped.power_units < free.power_units
    assert capped.token_machine.prompt_slowdown == pytest.approx(1.3)
    assert capped.prompt_machine == free.prompt_machine


DESIGNS = sampled_from(["BH-1P_T", "BA-3P_T", "HH-1P-1T", "HA-2P-1T", "AA-1P-2T", "HHcap-2P-2T"])


@settings(max_examples=40, deadline=None)
@given(trace=traces(), design=DESIGNS)
def test_whatever_arrives_each_request_ends_once_and_in_time(trace: Trace, design: str) -> None:
    outcome, used = run(trace, design)
    assert sorted(outcome.request_id.tolist()) == trace.request_id.tolist()
    assert outcome.unfinished == 0
    assert (outcome.queue_s >= 0).all()
    assert (outcome.ttft_s > outcome.queue_s).all()
    assert (outcome.e2e_s >= outcome.ttft_s).all()
    assert (outcome.second_token_s >= 0).all()
    ends = trace.arrival_s[outcome.request_id] + outcome.e2e_s
    assert (np.diff(ends) >= -1e-9).all(), "requests are listed as they end"
    assert sum(used.placements.values()) == len(trace)
    assert 0 <= used.beyond_measured <= 1


@settings(max_examples=10, deadline=None)
@given(trace=traces(), design=DESIGNS)
def test_same_trace_same_digits(trace: Trace, design: str) -> None:
    (first, used), (second, again) = run(trace, design), run(trace, design)
    for column in ("request_id", "e2e_s", "ttft_s", "second_token_s"):
        assert getattr(first, column).tobytes() == getattr(second, column).tobytes()
    assert used == again


@given(
    pending=lists(tuples(integers(0, 5000), integers(0, 5000)), min_size=2, max_size=6),
    tokens=integers(1, 4000),
)
def test_links_that_are_all_alike_change_no_placement(
    pending: list[tuple[int, int]], tokens: int
) -> None:
    """So the simulator, whose pools have one kind of machine each, need not speak of them."""
    count = len(pending)
    idle = np.zeros(count, np.int64)
    view = FleetView(
        Members(np.repeat([Role.PROMPT, Role.TOKEN], count), np.zeros(2 * count, np.int64)),
        pending_prompt_tokens=np.concatenate([[p for p, _ in pending], idle]),
        pending_tokens=np.concatenate([idle, [t for _, t in pending]]),
        room_tokens=np.full(2 * count, 1000 * BLOCK_TOKENS),
        borrowed=np.zeros(2 * count, np.bool_),
    )
    alike = {a: {b: Link(0.0, 1e9, failing=False) for b in range(2 * count)} for a in range(count)}
    links = LinkView(
        number=np.arange(2 * count),
        tokens_per_s=np.full(2 * count, 1000.0),
        known=alike,
        token_bytes=100,
        layers=10,
    )
    assert place(view, tokens, 10, 8192, links) == place(view, tokens, 10, 8192)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network_bytes_per_s": None}, "has no network_bytes_per_s"),
        ({"layer_push_s": None}, "has no network_bytes_per_s and layer_push_s"),
        ({"gpus": 6}, "do not make workers of 8"),
    ],
)
def test_what_the_catalogue_does_not_tell_is_said(change: dict[str, object], said: str) -> None:
    from splitwise_core.errors import UserError

    catalog = load_catalog()
    design = parse_design("HH-1P-1T", catalog)
    machine = replace(design.prompt_machine, **change)  # type: ignore[arg-type]
    design = replace(design, prompt_machine=machine, token_machine=machine)
    with pytest.raises(UserError, match=said):
        rules_for(load_phase_times(), "bloom-176b", catalog.model("bloom-176b"), design)
