"""`splitwise plan`: what it finds, what it refuses, and what the published tables say."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from splitwise_core.errors import UserError
from splitwise_planner.catalog import load_catalog
from splitwise_planner.design import design_of, parse_design
from splitwise_planner.evaluate import Evaluator
from splitwise_planner.measured.failures import Faults
from splitwise_planner.modes import failures_in
from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.planning import Budgets, Request, plan, rate
from splitwise_planner.report import plan_as_dict, plan_as_text, rates_as_dict, rates_as_text
from splitwise_planner.trace import load_trace
from splitwise_planner.winner import at_work
from splitwise_planner.workload import Workload
from tests.planner.support import SHARED, needs_shared, quiet, request_in, trace_of

AZURE = SHARED / "azure-llm-2023"


@pytest.fixture
def asked(tmp_path: Path) -> Request:
    """Six requests a second, of a few sizes."""
    return request_in(tmp_path)


def test_the_plan_is_that_of_simulating_every_cluster(asked: Request) -> None:
    (found,) = plan(replace(asked, designs=["HH"]), quiet).sized
    catalog = load_catalog()
    workload = Workload(load_trace(asked.trace), asked.duration_s)
    evaluator = Evaluator(
        asked.model, catalog.model(asked.model), load_phase_times(), workload, range(asked.seeds)
    )
    every = [design_of("HH", p, t, catalog) for p in range(1, 8) for t in range(1, 8)]
    good = [design for design in every if evaluator.trial(design, 6.0).is_met]
    assert found.design is not None
    assert found.design.machines == min(design.machines for design in good)
    assert found.design in good
    assert len(found.trial.verdicts) == asked.seeds, "every seed keeps all objectives"


def test_the_cheapest_kind_comes_first(asked: Request) -> None:
    plans = plan(asked, quiet)
    prices = [one.design.dollars_per_hour for one in plans.sized if one.design]
    assert prices == sorted(prices)
    found = plan_as_dict(asked, plans)
    assert json.loads(json.dumps(found)) == found
    assert found["plans"][0]["load"] < 1
    assert all(str(one.design) in plan_as_text(asked, plans) for one in plans.sized)


def test_one_more_machine_brings_the_load_down(asked: Request) -> None:
    (found,) = plan(replace(asked, designs=["BH"]), quiet).sized
    assert found.next_load["machine"] < found.trial.worst.load


@pytest.mark.parametrize(
    ("budgets", "said"),
    [
        pytest.param(Budgets(machines=2), "HH: nearest was HH-1P-1T, where ", id="machines"),
        pytest.param(Budgets(dollars_per_hour=50), "HH: the budgets do not allow", id="dollars"),
        pytest.param(Budgets(power_units=90), "BH: nearest was BH-2P_T, where ", id="power"),
    ],
)
def test_what_is_impossible_is_said_with_what_was_nearest(
    asked: Request, budgets: Budgets, said: str
) -> None:
    with pytest.raises(UserError) as refused:
        plan(replace(asked, rate=40.0, budgets=budgets), quiet)
    assert refused.value.code == "plan-impossible"
    assert said in str(refused.value)


def test_a_budget_is_kept_by_whatever_is_planned(asked: Request) -> None:
    free = {one.kind: one.nearest for one in plan(asked, quiet).sized}
    tight = replace(asked, budgets=Budgets(power_units=free["HH"].power_units))
    assert all(
        one.design is None or one.design.power_units <= free["HH"].power_units
        for one in plan(tight, quiet).sized
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rate": 0.0}, "--rate: is 0"),
        ({"rate": float("nan")}, "--rate: is nan"),
        ({"seeds": 0}, "--seeds: is 0"),
        ({"duration_s": 0.0}, "--duration: is 0"),
        ({"budgets": Budgets(machines=-1)}, "--max-machines: is -1"),
        ({"designs": ["HX"]}, "'HX': names no machines"),
        ({"designs": ["HH/4"]}, "compat mode does not know"),
        ({"designs": ["HH@"]}, "is not a kind of design"),
        ({"designs": ["HHcap@50"]}, "which has a cap"),
        ({"power_caps": [40]}, "caps power at 40 %"),
        ({"headroom": 0.5}, "--headroom: is 0.5"),
        ({"spare": -1}, "--spare: is -1"),
        ({"power_caps": range(50, 99)}, "are 98 kinds"),
        ({"model": "gpt-5"}, "--model gpt-5: is not in the catalogue"),
    ],
)
def test_what_has_no_sense_is_refused(asked: Request, change: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(replace(asked, **change), quiet)  # type: ignore[arg-type]


def test_caps_of_whole_clusters_stand_in_their_names(asked: Request) -> None:
    with pytest.raises(UserError, match="go with --rate"):
        rate(replace(asked, rate=None, designs=["HH-2P-1T"], power_caps=[50]), quiet)


def test_the_highest_rate_is_the_last_that_keeps_all_objectives(asked: Request) -> None:
    question = replace(asked, rate=None, designs=["HH-2P-1T"], seeds=1)
    (rated,) = rate(question, quiet)
    evaluator = Evaluator(
        asked.model,
        load_catalog().model(asked.model),
        load_phase_times(),
        Workload(load_trace(asked.trace), asked.duration_s),
        [0],
    )
    (most,) = rated.max_rates
    assert evaluator.verdict(rated.design, most, 0).is_met
    assert evaluator.verdict(rated.design, most + 1, 0).broken == list(rated.breaks_first)
    assert rates_as_dict(question, [rated])["clusters"][0]["max_rates"] == [most]
    assert "HH-2P-1T" in rates_as_text(question, [rated])


def test_headroom_and_spare_machines_cost_machines(asked: Request) -> None:
    question = replace(asked, designs=["HH"])
    (bare,) = plan(question, quiet).sized
    (roomy,) = plan(replace(question, headroom=2.0), quiet).sized
    (spare,) = plan(replace(question, spare=1), quiet).sized
    assert bare.design is not None
    assert roomy.design is not None
    assert roomy.design.machines > bare.design.machines
    assert spare.design is not None
    assert spare.design.machines == bare.design.machines + 2, "one of each phase may be gone"


def test_what_one_machine_more_brings_is_counted_in_requests(asked: Request) -> None:
    found = plan(replace(asked, designs=["BH"]), quiet)
    assert found.gain_rps["machine"] > 0


def test_none_of_the_frontier_is_beaten(asked: Request) -> None:
    found = plan_as_dict(asked, plan(replace(asked, designs=["HH", "HA"], frontier=True), quiet))
    prices = [
        (one["dollars_per_hour"], one["power_units"], one["machines"]) for one in found["frontier"]
    ]
    assert prices
    for price in prices:
        assert not any(o != price and all(a <= b for a, b in zip(o, price)) for o in prices)


def test_a_search_that_was_broken_off_goes_on(asked: Request, tmp_path: Path) -> None:
    notes = tmp_path / "notes.jsonl"
    question = replace(asked, designs=["HH"], resume=notes)
    first = plan(question, quiet)
    lines = notes.read_text().splitlines()
    notes.write_text("\n".join(lines[:3]) + '\n{"design": "HH-1P')
    second = plan(question, quiet)
    assert second.sized[0].design == first.sized[0].design
    assert 0 < second.sized[0].simulations < first.sized[0].simulations
    assert plan(question, quiet).sized[0].simulations == 0, "all of it is known now"
    assert sorted(notes.read_text().splitlines()) == sorted(lines)


def test_verdicts_of_another_question_are_not_taken(asked: Request, tmp_path: Path) -> None:
    question = replace(asked, designs=["BH"], resume=tmp_path / "notes.jsonl")
    plan(question, quiet)
    for other in (replace(question, duration_s=61.0), replace(question, faults=FAULTS)):
        with pytest.raises(UserError, match="is of another question"):
            plan(other, quiet)


FAULTS = Faults(mtbf_s=240.0, repair_s=30.0)
"""Each machine fails once or twice while requests arrive, in most draws."""


@pytest.fixture
def failing(asked: Request) -> Request:
    return replace(asked, designs=["HH"], mode="measured", faults=FAULTS, duration_s=200.0)


def test_what_is_planned_with_failures_keeps_its_objectives_while_machines_fail(
    failing: Request,
) -> None:
    """Simulated again by itself, with the failures that its trials had."""
    planned = plan(failing, quiet)
    (found,), (calm,) = planned.sized, plan(replace(failing, faults=None), quiet).sized
    assert found.nearest.machines > calm.nearest.machines, "that costs machines"
    answer = at_work(failing, planned)
    assert answer.verdict.is_met
    assert answer.used is not None
    workload = Workload(load_trace(failing.trace), failing.duration_s)
    drawn = [
        failures_in(workload.at(6.0, seed), found.nearest, replace(FAULTS, seed=seed))
        for seed in range(failing.seeds)
    ]
    assert answer.used.failures == tuple(drawn[0]) != tuple(drawn[1]), "each seed has its own"
    assert found.trial.failures == len(drawn[0]) + len(drawn[1])
    told = plan_as_dict(failing, planned)
    assert told["plans"][0]["failures"] == found.trial.failures
    assert (told["mtbf_hours"], told["repair_minutes"]) == (240 / 3600, 0.5)
    text = plan_as_text(failing, planned)
    assert f"{found.design} that failed in its 2 draws: {found.trial.failures}" in text


def test_a_plan_in_which_nothing_failed_says_so(failing: Request) -> None:
    question = replace(failing, faults=Faults(3600_000.0, 60.0))
    planned = plan(question, quiet)
    (found,) = planned.sized
    asked_for = round(3600_000 / found.nearest.machines)
    assert found.trial.failures == 0
    assert f"give --duration {asked_for}" in plan_as_text(question, planned)


def test_compat_mode_knows_no_failures(failing: Request) -> None:
    with pytest.raises(UserError, match="--mtbf: asks for what compat mode does not know"):
        plan(replace(failing, mode="compat"), quiet)


def test_a_machine_more_of_one_phase_changes_no_failure_of_the_other() -> None:
    catalog, trace = load_catalog(), trace_of((0.0, 9, 9), (5000.0, 9, 9))

    def tokens(prompt: int) -> list[tuple[float, int]]:
        design = design_of("HH", prompt, 3, catalog)
        failures = failures_in(trace, design, FAULTS)
        return [(one.at_s, one.machine - prompt) for one in failures if one.machine >= prompt]

    assert tokens(4) == tokens(5)
    assert len(tokens(4)) > 9


def test_the_highest_rate_is_lower_while_machines_fail(failing: Request) -> None:
    question = replace(failing, rate=None, designs=["HH-3P-3T"], seeds=1)
    (calm,) = rate(replace(question, faults=None), quiet)
    (found,) = rate(question, quiet)
    assert found.max_rates[0] < calm.max_rates[0]
    assert "machines fail, each once in" in rates_as_text(question, [found])


def published(kind: str, duration_s: float, seeds: int = 1) -> Evaluator:
    """Trials on the sizes of an Azure trace of 2023, as the paper's figures are."""
    sizes = load_trace(AZURE / f"AzureLLMInferenceTrace_{kind}.csv")
    model = load_catalog().model("bloom-176b")
    workload = Workload(sizes, duration_s)
    return Evaluator("bloom-176b", model, load_phase_times(), workload, range(seeds))


@needs_shared
@pytest.mark.parametrize("kind", ["code", "conv"])
def test_a_drawn_trace_is_the_recorded_one(kind: str) -> None:
    drawn = published(kind, 120.0).workload.at(70.0, 0)
    recorded = load_trace(SHARED / "golden" / "traces" / f"rr_{kind}_70_2min.csv.gz")
    for column in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert getattr(drawn, column).tolist() == getattr(recorded, column).tolist()


@needs_shared
def test_27_prompt_and_3_token_machines_serve_code_at_70_requests_a_second() -> None:
    """Figure 12 of the paper, on each of five draws."""
    trial = published("code", 120.0, seeds=5).trial(parse_design("HH-27P-3T", load_catalog()), 70.0)
    assert trial.is_met
    assert len(trial.verdicts) == 5


@needs_shared
def test_the_highest_rate_of_forty_machines_on_code() -> None:
    """54 requests a second: measured with the released simulator's rules, 600 s, seed 0."""
    assert published("code", 600.0).max_rate(parse_design("BH-40P_T", load_catalog()), 0) == 54


@needs_shared
def test_machines_for_70_requests_of_code_a_second(asked: Request) -> None:
    """As found by trying every count with the released simulator's rules, seed 0."""
    question = replace(
        asked,
        trace=AZURE / "AzureLLMInferenceTrace_code.csv",
        rate=70.0,
        seeds=1,
        duration_s=120.0,
    )
    plans = plan(question, quiet)
    assert {str(one.design) for one in plans.sized} == {"HH-22P-7T", "BH-51P_T"}
    assert sum(one.simulations for one in plans.sized) < 100, "of some 1,600 clusters"
