"""The winner by the hour: what each needs, what pools that follow save, and what no pool can do."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from splitwise_core.errors import UserError
from splitwise_planner.day import Day
from splitwise_planner.design import design_of
from splitwise_planner.evaluate import Trial
from splitwise_planner.hours import DayPlan, size_day
from splitwise_planner.planning import Budgets, Plan, Request, plan
from splitwise_planner.report import plan_as_dict, plan_as_text
from splitwise_planner.request import prepared
from splitwise_planner.sizing import Sized
from splitwise_planner.trace import Trace
from tests.planner.support import quiet, request_in, trace_of

LEVELS = (0.0, 1.5, 3.0, 6.0, 9.0, 14.0)
OFFICE = Day(
    (1.5,) * 6 + (3.0, 6.0, 9.0) + (14.0,) * 6 + (9.0, 6.0, 3.0) + (0.0,) * 6, "office.csv"
)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """A day between no request a second and fourteen."""
    question = request_in(tmp_path_factory.mktemp("day"))
    return replace(question, rate=OFFICE.peak, day=OFFICE)


@pytest.fixture(scope="module")
def planned(asked: Request) -> Plan:
    return plan(asked, quiet)


@pytest.fixture(scope="module")
def day(planned: Plan) -> DayPlan:
    assert planned.day is not None
    return planned.day


@pytest.fixture(scope="module")
def alone(asked: Request, planned: Plan) -> dict[float, Plan]:
    """A plan of the winner's kind for each rate by itself."""
    question = replace(asked, designs=[planned.sized[0].kind], day=None)
    return {rate: plan(replace(question, rate=rate), quiet) for rate in LEVELS[1:]}


def test_every_hour_keeps_all_objectives_on_every_seed(asked: Request, day: DayPlan) -> None:
    assert [hour.rate for hour in day.hours] == list(OFFICE.rates)
    for hour in day.hours:
        assert hour.trial.is_met
        assert len(hour.trial.verdicts) == (asked.seeds if hour.rate else 0)


def test_the_busiest_hour_has_the_winner(planned: Plan, day: DayPlan) -> None:
    assert day.hours[9].design == day.most == planned.sized[0].design


def test_an_hour_costs_what_a_plan_for_its_rate_costs(
    day: DayPlan, alone: dict[float, Plan]
) -> None:
    for hour in day.hours:
        if hour.rate:
            best = alone[hour.rate].sized[0].design
            assert best is not None
            assert hour.design.dollars_per_hour == best.dollars_per_hour


def test_hours_take_far_fewer_simulations_than_plans_for_each(
    day: DayPlan, alone: dict[float, Plan]
) -> None:
    others = sum(alone[rate].sized[0].simulations for rate in LEVELS[1:-1])
    assert 0 < day.simulations < others / 1.5


def test_no_pool_grows_as_the_load_goes_down(day: DayPlan) -> None:
    by_rate = sorted(day.hours, key=lambda hour: hour.rate)
    for phase in ("prompt", "token"):
        counts = [getattr(hour.design, phase) for hour in by_rate]
        assert counts == sorted(counts)


def test_when_nobody_asks_one_machine_of_each_phase_stays(asked: Request, day: DayPlan) -> None:
    assert str(day.hours[20].design) == "HH-1P-1T"
    spare = plan(replace(asked, designs=["BH"], spare=1), quiet).day
    assert spare is not None
    assert str(spare.hours[20].design) == "BH-2P_T", "one of them may be gone"


def test_what_is_saved_is_counted_in_machine_hours_and_dollars(day: DayPlan) -> None:
    machines = day.most.machines
    hours = sum(day.machine_hours.values())
    needed = sum(hour.design.machines for hour in day.hours)
    assert needed < hours < needed + 1, "what starts a minute sooner is paid for"
    assert day.saved_share == pytest.approx(1 - hours / (24 * machines))
    assert day.dollars_at_peak == pytest.approx(24 * day.most.dollars_per_hour)


def test_a_day_stands_in_the_answer(asked: Request, planned: Plan, day: DayPlan) -> None:
    found = plan_as_dict(asked, planned)
    assert json.loads(json.dumps(found)) == found
    told = found["day"]
    assert [hour["rate"] for hour in told["hours"]] == list(OFFICE.rates)
    assert told["hours"][20]["load"] is None
    assert told["pools"]["prompt"]["most"] == day.most.prompt
    assert told["pools"]["prompt"]["schedule"][-1]["ends"] == "18:00"
    text = plan_as_text(asked, planned)
    assert f"saved: {day.saved_share:.1%}" in text
    assert all(str(hour.design) in text for hour in day.hours)


def test_without_a_day_there_is_none(asked: Request) -> None:
    question = replace(asked, day=None, designs=["BH"], rate=2.0)
    found = plan(question, quiet)
    assert found.day is None
    assert plan_as_dict(question, found)["day"] is None


def test_an_hour_that_no_cluster_can_do_is_named_with_what_was_nearest(asked: Request) -> None:
    """The busiest, within a budget that the others keep."""
    with pytest.raises(UserError, match=r"14 requests/s of trace.csv.*\n.* HH-\dP-\dT") as refused:
        plan(replace(asked, designs=["HH"], budgets=Budgets(machines=2)), quiet)
    assert refused.value.code == "plan-impossible"


def test_where_draws_ask_for_more_than_the_winner_has_it_gets_a_machine_more(
    asked: Request, planned: Plan
) -> None:
    """As if the draws of the busiest hour had been kind to a cluster that is one too small."""
    own = planned.sized[0]
    assert own.design is not None
    lucky = replace(own, design=replace(own.design, prompt=own.design.prompt - 1))
    rates = (OFFICE.peak - 0.1,) * 23 + (OFFICE.peak,)
    with prepared(asked) as (_, evaluator):
        found = size_day(asked, Day(rates, "d"), evaluator, lucky, quiet)
    assert found.hours[0].trial.is_met
    assert found.most.machines <= own.design.machines
    assert found.hours[23].design == found.most, "the busiest hour has as many"


def test_all_hours_that_fail_by_chance_are_named_and_nothing_is_relaxed(asked: Request) -> None:
    """As if the draws of the busiest hour had been kind to two machines."""
    question = replace(asked, rate=14.0, budgets=Budgets(machines=2))
    with prepared(question) as (catalog, evaluator):
        lucky = design_of("HH", 1, 1, catalog)
        winner = Sized("HH", lucky, lucky, Trial(()), {}, 0)
        with pytest.raises(UserError) as refused:
            size_day(question, OFFICE, evaluator, winner, quiet)
    assert refused.value.code == "plan-impossible"
    for hour in (8, 15):
        assert f"hour {hour}, 9 requests/s: nearest was HH-1P-1T, where " in str(refused.value)


def test_hours_with_too_few_requests_to_judge_are_refused(asked: Request) -> None:
    few = replace(OFFICE, rates=(0.1, *OFFICE.rates[1:]))
    with pytest.raises(UserError, match=r"--duration: is 60 s, in which 0\.1 .*\n.*give 200 s"):
        plan(replace(asked, day=few), quiet)


def test_a_search_of_a_day_goes_on_from_its_notes(asked: Request, tmp_path: Path) -> None:
    question = replace(asked, designs=["BH"], resume=tmp_path / "notes.jsonl")
    first, second = plan(question, quiet).day, plan(question, quiet).day
    assert first is not None
    assert second is not None
    assert second.hours == first.hours
    assert second.simulations == 0 < first.simulations


HOURS_OF_WORK = (0, 8, 16)
"""In which twenty requests come a second; in the others none."""


def by_sizes(*each: Trace) -> Day:
    """A day whose hours of work have the sizes of these requests."""
    rates, sizes = [0.0] * 24, [each[0]] * 24
    for hour, own in zip(HOURS_OF_WORK, each):
        rates[hour], sizes[hour] = 20.0, own
    return Day(tuple(rates), "shift.csv", sizes=tuple(sizes))


SHORT, LONG, CHATTY = (trace_of((0.0, *size)) for size in ((200, 8), (3000, 8), (200, 600)))


def test_an_hour_is_sized_for_the_sizes_of_its_own_requests(asked: Request) -> None:
    question = replace(asked, designs=["HH"], rate=20.0, day=by_sizes(SHORT, LONG, CHATTY))
    found = plan(question, quiet)
    assert found.day is not None
    short, long, chatty = (found.day.hours[hour].design for hour in HOURS_OF_WORK)
    assert long.prompt > chatty.prompt
    assert chatty.token > long.token
    assert (found.day.most.prompt, found.day.most.token) == (long.prompt, chatty.token)
    assert short.machines < min(long.machines, chatty.machines)
    assert found.sized[0].design == long, "kinds are compared at the hour with the most tokens"
    assert all(hour.trial.is_met for hour in found.day.hours)
    assert "each with the sizes of its own requests" in plan_as_text(question, found)
    assert plan_as_dict(question, found)["day"]["own_sizes"] is True


def test_what_was_found_for_one_hours_sizes_is_not_taken_for_anothers(
    asked: Request, tmp_path: Path
) -> None:
    day = by_sizes(SHORT, LONG)
    question = replace(asked, designs=["HH"], rate=20.0, day=day, resume=tmp_path / "notes")
    first, again = plan(question, quiet), plan(question, quiet)
    assert first.day is not None
    assert again.day is not None
    assert again.day.simulations == 0
    assert again.day.hours == first.day.hours
    assert first.day.hours[0].design != first.day.hours[8].design
    with pytest.raises(UserError, match="is of another question"):
        plan(replace(question, day=by_sizes(LONG, SHORT)), quiet)
