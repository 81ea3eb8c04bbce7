"""Dashboards ask for what there is, in a form that Grafana and Prometheus take."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from monitoring import generate
from monitoring.dashboards import BOARDS, Board, document
from monitoring.dashboards.board import Marks
from monitoring.dashboards.panels import Limits, Query
from monitoring.dashboards.promql import TARGET_LABELS, Scope
from monitoring.questions import filled, questions
from splitwise_core.metric import Metric
from splitwise_core.metrics import router, worker
from splitwise_core.telemetry import METRICS

EACH = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
SERIES: dict[str, Metric] = {
    f"{metric.name}{part}": metric
    for metric in METRICS
    for part in ("", "_bucket", "_sum", "_count")
}
FILLED = {"namespace": "default", "cluster": "a", "pool": ".*", "__rate_interval": "1m"}
SELECTOR = re.compile(r"(splitwise_\w+)\{([^}]*)\}")
LABEL = re.compile(r'(\w+)=~?"')


def panels(board: Board) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in document(board)["panels"] if panel["type"] != "row")


def test_the_exported_files_are_of_these_dashboards() -> None:
    for place in generate.PLACES:
        there = {file.name: file.read_text("utf-8") for file in place.glob("*.json")}
        assert there == generate.dashboards(), "run `make generate`"
    assert generate.KUSTOMIZATION.read_text("utf-8") == generate.kustomization()


@EACH
def test_grafanas_own_types_know_every_field(board: Board) -> None:
    register_default_plugins()
    made = document(board)
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(made))) == made


@EACH
def test_every_series_asked_for_is_a_declared_metric_with_these_labels(board: Board) -> None:
    for question in questions(board):
        found = SELECTOR.findall(question.expr)
        assert found, question
        assert len(found) == len(re.findall(r"splitwise_\w+", question.expr)), question
        for name, selector in found:
            known = {*SERIES[name].labels, *TARGET_LABELS, "le"}
            assert set(LABEL.findall(selector)) <= known, question


@EACH
def test_every_variable_that_is_used_can_be_chosen(board: Board) -> None:
    chosen = {variable.name for variable in board.variables} | {"__rate_interval"}
    for question in questions(board):
        assert set(re.findall(r"\$(\w+)", question.expr)) <= chosen, question


@EACH
def test_a_legend_names_labels_that_the_answer_has(board: Board) -> None:
    for question in questions(board):
        for label in re.findall(r"{{(\w+)}}", question.legend):
            if label != "le":
                assert re.search(rf"by \([^)]*\b{label}\b", question.expr), question


@EACH
def test_every_panel_says_what_it_shows_and_in_which_unit(board: Board) -> None:
    assert board.about
    for panel in panels(board):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        if panel["type"] == "heatmap":
            assert panel["options"]["yAxis"]["unit"]
        elif panel["type"] == "table":
            named = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
            shape = panel["transformations"][-1]["options"]
            assert named == set(shape["renameByName"].values())
        else:
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


@EACH
def test_panels_fill_their_rows_and_do_not_overlap(board: Board) -> None:
    places = [
        {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        for at in (panel["gridPos"] for panel in document(board)["panels"])
    ]
    assert not any(one & other for one, other in combinations(places, 2))
    covered = set().union(*places)
    assert covered == {(x, y) for x in range(24) for y in range(1 + max(y for _, y in covered))}


@EACH
def test_numbers_and_letters_are_given_once(board: Board) -> None:
    numbers = [panel["id"] for panel in document(board)["panels"]]
    assert len(set(numbers)) == len(numbers)
    for panel in panels(board):
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters) > 0


def test_dashboards_have_addresses_of_their_own_and_a_table_leads_to_one_of_them() -> None:
    addresses = {board.uid for board in BOARDS}
    assert len(addresses) == len(BOARDS)
    text = "".join(generate.dashboards().values())
    led = set(re.findall(r'"/d/([\w-]+)\?', text))
    assert led
    assert led <= addresses


def test_prometheus_understands_every_query(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool: `make packages` gets Debian's prometheus")
    exprs = [filled(question.expr, FILLED) for board in BOARDS for question in questions(board)]
    rules = [{"record": f"panel:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{len(exprs)} rules found" in done.stdout


def test_a_label_that_a_metric_lacks_is_refused() -> None:
    scope = Scope(("namespace",))
    with pytest.raises(AssertionError):
        scope.rate(router.OUTPUT_TOKENS, ("pool",))
    with pytest.raises(AssertionError):
        scope.of(worker.RUNNING, kind="prompt")
    with pytest.raises(AssertionError):
        scope.now(router.OUTPUT_TOKENS)


def test_only_series_that_have_a_pool_are_chosen_by_it() -> None:
    scope = Scope(("cluster", "pool"))
    assert scope.of(router.INFLIGHT_REQUESTS) == (
        'splitwise_router_inflight_requests{cluster=~"$cluster"}'
    )
    assert scope.of(worker.RUNNING) == (
        'splitwise_worker_running_sequences{cluster=~"$cluster", pool=~"$pool"}'
    )


def test_marks_are_shown_by_all_panels() -> None:
    query = Query('sum(splitwise_router_queued_requests{cluster=~"$cluster"})', "waiting")
    board = Board("u", "t", "a.", [], [], [Marks("Queues", query, "red")])
    *_, made = document(board)["annotations"]["list"]
    assert (made["name"], made["expr"], made["titleFormat"]) == ("Queues", query.expr, "waiting")


@pytest.mark.parametrize(
    ("limits", "colors"),
    [
        pytest.param(Limits(1, 10), ["green", "yellow", "red"], id="high values are bad"),
        pytest.param(Limits(10, 1), ["red", "yellow", "green"], id="low values are bad"),
    ],
)
def test_limits_colour_the_bad_side_red(limits: Limits, colors: list[str]) -> None:
    steps = limits.steps()
    assert [step.color for step in steps] == colors
    assert [step.value for step in steps] == [None, 1, 10]
