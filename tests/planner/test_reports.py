"""Reports to keep, and the winner as a cluster that our own loader takes."""

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml

from splitwise_core.errors import UserError
from splitwise_core.manifest import load_cluster
from splitwise_core.policy.mixing import Disaggregation
from splitwise_operator.render import render
from splitwise_operator.scaled_pools import law_of
from splitwise_planner.catalog import SHIPPED
from splitwise_planner.charts import Line, chart
from splitwise_planner.day import Day
from splitwise_planner.document import write_report
from splitwise_planner.measured.failures import Faults
from splitwise_planner.modes import Scheduling
from splitwise_planner.page import plan_parts, simulation_parts
from splitwise_planner.phase_times import COLUMNS, PUBLISHED
from splitwise_planner.planning import Budgets, Plan, Request, plan
from splitwise_planner.report import plan_as_dict, plan_as_text, rates_as_dict, rates_as_text
from splitwise_planner.winner import at_work, cluster_of
from tests.support.html import Page

FAULTS = Faults(mtbf_s=180_000.0, repair_s=600.0)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Request:
    """Two requests a second on one-GPU workers of a model of our own."""
    folder = tmp_path_factory.mktemp("plan")
    trace, times, catalog = (folder / name for name in ("trace.csv", "times.csv", "mine.yaml"))
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,400,20\n1,900,60\n2,150,9\n")
    rows = [(n, 1, 16, 20 + n / 20, 9.0) for n in (128, 512, 2048)] + [(256, 8, 16, 130.0, 10.5)]
    lines = [",".join(COLUMNS)]
    for gpu, slower in (("h100-80gb", 1.0), ("a100-80gb", 2.0)):
        lines += [f"mine,{gpu},1,{p},{s},{o},{a * slower},{b * slower}" for p, s, o, a, b in rows]
    times.write_text("\n".join(lines) + "\n")
    document = yaml.safe_load(SHIPPED.read_text("utf-8"))
    document["models"]["mine"] = {
        "tensor_parallel": 1,
        "weight_bytes": 16 * 10**9,
        "layers": 32,
        "hidden": 4096,
        "kv_bytes_per_token": 131072,
        "source": "a test",
        "read": "2026-11-26",
    }
    catalog.write_text(yaml.safe_dump(document))
    return Request(
        model="mine",
        trace=trace,
        designs=["HA"],
        rate=2.0,
        objective="cost",
        budgets=Budgets(machines=8),
        seeds=1,
        duration_s=20.0,
        catalog=catalog,
        phase_times=times,
    )


@pytest.fixture(scope="module")
def planned(asked: Request) -> Plan:
    return plan(asked, lambda *_: None)


def test_the_winner_is_a_cluster_that_the_operator_takes(
    asked: Request, planned: Plan, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(cluster_of(asked, planned, "/models/mine"))
    cluster = load_cluster(file)
    design = planned.sized[0].design
    assert design is not None
    pools = {pool.name: pool for pool in cluster.spec.pools}
    assert pools["prompt"].replicas == 8 * design.prompt, "eight workers of one GPU on a machine"
    assert pools["token"].replicas == 8 * design.token
    assert pools["prompt"].node_selector != pools["token"].node_selector
    assert {pool.max_sequences for pool in pools.values()} == {64}
    kv_mib = int(pools["token"].kv_memory.removesuffix("Mi"))
    assert kv_mib == pytest.approx((0.9 * 80 * 1024**3 - 16e9) / 2**20, rel=0.001)
    assert "Planned as HA-" in file.read_text()
    assert render(cluster), "the objects of it"


def test_a_baselines_winner_is_a_mixed_pool(asked: Request, tmp_path: Path) -> None:
    question = replace(asked, designs=["BH"])
    file = tmp_path / "cluster.yaml"
    file.write_text(cluster_of(question, plan(question, lambda *_: None), "/models/mine"))
    assert [pool.role for pool in load_cluster(file).spec.pools] == ["mixed"]


@pytest.fixture(scope="module")
def with_auto(asked: Request) -> Request:
    auto = Scheduling(disaggregation=Disaggregation.AUTO)
    return replace(asked, mode="measured", scheduling=auto)


@pytest.fixture(scope="module")
def planned_with_auto(with_auto: Request) -> Plan:
    return plan(with_auto, lambda *_: None)


def test_what_was_planned_with_auto_is_a_cluster_with_auto(
    with_auto: Request, planned_with_auto: Plan, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(cluster_of(with_auto, planned_with_auto, "/models/mine"))
    assert load_cluster(file).spec.scheduling.disaggregation == "Auto"


def test_a_plan_says_how_its_requests_are_placed(
    with_auto: Request, planned_with_auto: Plan, asked: Request, planned: Plan
) -> None:
    told = "requests are placed with disaggregation: Auto"
    assert told in plan_as_text(with_auto, planned_with_auto).splitlines()
    work = at_work(with_auto, planned_with_auto)
    assert told in plan_parts(with_auto, planned_with_auto, work)
    assert plan_as_dict(with_auto, planned_with_auto)["disaggregation"] == "Auto"
    assert told in rates_as_text(with_auto, []).splitlines()
    assert rates_as_dict(with_auto, [])["disaggregation"] == "Auto"
    assert "disaggregation:" not in plan_as_text(asked, planned), "compat mode knows one way"


@pytest.fixture(scope="module")
def by_day(asked: Request) -> Request:
    rates = (1.0,) * 8 + (10.0,) * 4 + (60.0,) * 6 + (1.0,) * 6
    day = Day(rates, "office.csv", "Europe/Berlin")
    return replace(asked, rate=60.0, day=day)


@pytest.fixture(scope="module")
def planned_by_day(by_day: Request) -> Plan:
    return plan(by_day, lambda *_: None)


def test_a_days_winner_scales_by_the_clock_as_the_operator_reads_it(
    by_day: Request, planned_by_day: Plan, tmp_path: Path
) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(cluster_of(by_day, planned_by_day, "/models/mine"))
    cluster = load_cluster(file)
    assert planned_by_day.day is not None
    midnight = datetime(2026, 1, 5, tzinfo=ZoneInfo("Europe/Berlin"))
    for hour, needed in enumerate(planned_by_day.day.hours):
        then = midnight + timedelta(hours=hour)
        laws = [law_of(cluster, pool, then) for pool in cluster.spec.pools]
        prompt, token = (law for law in laws if law is not None)
        assert (prompt.least, token.least) == (8 * needed.design.prompt, 8 * needed.design.token)
        most = planned_by_day.day.most
        assert (prompt.most, token.most) == (8 * most.prompt, 8 * most.token)
    assert len({hour.design for hour in planned_by_day.day.hours}) > 1
    day = planned_by_day.day
    assert f"Pools follow office.csv, from {day.least} to {day.most}." in file.read_text()
    assert render(cluster), "the objects of it"


def test_a_page_shows_the_machines_of_each_hour(
    by_day: Request, planned_by_day: Plan, tmp_path: Path
) -> None:
    winner = at_work(by_day, planned_by_day)
    parts = plan_parts(replace(by_day, faults=FAULTS), planned_by_day, winner)
    for name in ("plan.html", "plan.md"):
        write_report(tmp_path / name, "A plan", parts)
    page, markdown = ((tmp_path / name).read_text() for name in ("plan.html", "plan.md"))
    assert Page(page).loads == []
    assert Page(page).pictures == 6, "one more than without a day"
    assert "Least machines of each pool" in page
    assert "## office.csv, hours in Europe/Berlin" in markdown
    assert "| 12:00 | 60 | HA-" in markdown
    assert "| prompt | 11:59 | 18:00 |" in markdown
    assert "each keeps the objectives while machines fail" in markdown


def test_a_cluster_says_that_machines_failed_in_its_plan(asked: Request, planned: Plan) -> None:
    text = cluster_of(replace(asked, faults=FAULTS), planned, "/models/mine")
    assert "# Its objectives held while machines failed: each once in 50 h on average" in text


def test_more_workers_than_a_pool_may_have_are_no_cluster(asked: Request, planned: Plan) -> None:
    design = planned.sized[0].design
    assert design is not None
    many = replace(planned.sized[0], design=replace(design, prompt=126))
    with pytest.raises(UserError, match=r"spec\.pools\[0\]\.replicas"):
        cluster_of(asked, replace(planned, sized=(many,)), "/models/mine")


def test_workers_of_several_gpus_are_no_cluster_of_ours(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_s,prompt_tokens,output_tokens\n0,400,20\n")
    question = Request(
        model="bloom-176b",
        trace=trace,
        designs=["HH"],
        rate=1.0,
        objective="cost",
        budgets=Budgets(machines=4),
        seeds=1,
        duration_s=20.0,
        catalog=SHIPPED,
        phase_times=PUBLISHED,
    )
    with pytest.raises(UserError, match="workers of 8 GPUs each") as refused:
        cluster_of(question, plan(question, lambda *_: None), "/models/bloom")
    assert refused.value.code == "plan-undeployable"


def test_a_page_has_its_pictures_in_it_and_loads_nothing(
    asked: Request, planned: Plan, tmp_path: Path
) -> None:
    page = tmp_path / "plan.html"
    write_report(page, "A <plan>", plan_parts(asked, planned, at_work(asked, planned)))
    text = page.read_text()
    found = Page(text)
    assert found.loads == []
    assert found.pictures == 5, "the frontier, three latencies, the pools"
    assert "A &lt;plan&gt;" in text
    assert str(planned.sized[0].design) in text


def test_markdown_has_the_tables(asked: Request, planned: Plan, tmp_path: Path) -> None:
    page = tmp_path / "plan.md"
    answer = at_work(asked, planned)
    write_report(page, "A plan", plan_parts(asked, planned, answer))
    text = page.read_text()
    assert "<svg" not in text
    assert "| design | machines |" in text
    assert f"| {answer.design} |" in text
    assert "| ttft_p99 |" in text


def test_the_pools_empty_in_the_end(asked: Request, planned: Plan) -> None:
    timeline = simulation_parts(at_work(asked, planned))[-1]
    assert isinstance(timeline, str)
    lines = ET.fromstring(timeline).findall(".//{*}polyline")
    ends = [line.attrib["points"].split()[-1].split(",")[1] for line in lines]
    assert len(set(ends)) == 1, "both on the axis"


def test_a_chart_is_well_formed_whatever_its_names() -> None:
    picture = chart('<&">', "x", "y", [Line("a & b", [(0, 0), (3, 7)], ["<one>", "two"])])
    assert ET.fromstring(picture).tag.endswith("svg")


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be written"):
        write_report(tmp_path / "no" / "page.html", "t", ["text"])
