"""Every alert fires by its rule and by no other cause, as Prometheus' own tool computes it."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from monitoring.rules import CHART, MANIFEST, SOURCE, hastened, manifest, rules
from splitwise_core.telemetry import METRICS

TEXT = SOURCE.read_text("utf-8")
ALERTS = {rule["alert"]: rule for rule in rules(TEXT) if "alert" in rule}
RECORDS = [rule["record"] for rule in rules(TEXT) if "record" in rule]
NEEDS = "there is no promtool: `make packages` gets Debian's prometheus"

C = 'namespace="n",cluster="c"'
POOL = f'{C},role="token",pool="t"'
SLO = f'splitwise_router_slo_requests_total{{{C},objective="all",verdict="%s"}}'
TARGET = {f"splitwise_router_slo_target_ratio{{{C}}}": "0.9x400"}
SENT = f'splitwise_kv_transfers_total{{{POOL},direction="sent",transport="shm",outcome="%s"}}'
BYTES = f'splitwise_kv_transfer_bytes_total{{{POOL},direction="sent",transport="%s"}}'
WORKERS = f'splitwise_pool_workers{{{POOL},state="unschedulable"}}'
LEADS = 'splitwise_operator_leaders{instance="%s"}'
LOOKS = 'splitwise_operator_reconcile_seconds_count{result="%s"}'

Series = dict[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """Series of a sample a minute, and the minute at which an alert fires, or does not."""

    alert: str
    series: Series
    minute: int
    fires: bool


def burning(missed: str, met: str) -> Series:
    return {SLO % "missed": missed, SLO % "met": met} | TARGET


CASES = {
    "six of ten are late, for an hour": Case(
        "SplitwiseSloBurnsFast", burning("0+60x400", "0+40x400"), 70, True
    ),
    "six of ten are late, and the router was too busy for some scrapes": Case(
        "SplitwiseSloBurnsFast",
        burning("0+60x68 stale 4140+60x300", "0+40x68 stale 2760+40x300")
        | {f"splitwise_router_slo_target_ratio{{{C}}}": "0.9x68 stale 0.9x300"},
        70,
        True,
    ),
    "a tenth is late, as may be": Case(
        "SplitwiseSloBurnsFast", burning("0+10x400", "0+90x400"), 70, False
    ),
    "it was an hour ago and is over": Case(
        "SplitwiseSloBurnsFast", burning("0+90x30 2700x400", "0+10x30 310+100x400"), 70, False
    ),
    "two of two are no statistics": Case(
        "SplitwiseSloBurnsFast", burning("0 0 1 2x400", "0x400"), 5, False
    ),
    "a third is late, for hours": Case(
        "SplitwiseSloBurnsSlowly", burning("0+30x400", "0+70x400"), 380, True
    ),
    "a tenth is late, for hours": Case(
        "SplitwiseSloBurnsSlowly", burning("0+10x400", "0+90x400"), 380, False
    ),
    "it has been eight seconds for six minutes": Case(
        "SplitwiseQueueGrows", {f"splitwise_router_expected_wait_seconds{{{C}}}": "8x20"}, 6, True
    ),
    "it has been eight seconds, and the router was too busy for some scrapes": Case(
        "SplitwiseQueueGrows",
        {f"splitwise_router_expected_wait_seconds{{{C}}}": "8 8 stale 8 8 stale 8 8 stale 8x20"},
        8,
        True,
    ),
    "it was eight seconds once": Case(
        "SplitwiseQueueGrows",
        {f"splitwise_router_expected_wait_seconds{{{C}}}": "8x3 1x20"},
        6,
        False,
    ),
    "requests are turned away": Case(
        "SplitwiseRequestsTurnedAway",
        {f'splitwise_router_rejected_requests_total{{{C},reason="waited"}}': "0+3x20"},
        8,
        True,
    ),
    "some were turned away before": Case(
        "SplitwiseRequestsTurnedAway",
        {f'splitwise_router_rejected_requests_total{{{C},reason="waited"}}': "7x20"},
        8,
        False,
    ),
    "not Ready, for changing reasons": Case(
        "SplitwiseClusterNotReady",
        {
            f'splitwise_cluster_condition_info{{{C},condition="Ready",condition_status="False",'
            f'condition_reason="{reason}"}}': values
            for reason, values in (("Starting", "1x8 _x20"), ("NoRoom", "_x8 1x20"))
        },
        17,
        True,
    ),
    "Ready": Case(
        "SplitwiseClusterNotReady",
        {
            f'splitwise_cluster_condition_info{{{C},condition="Ready",condition_status="True",'
            'condition_reason="Serving"}': "1x30"
        },
        17,
        False,
    ),
    "a tenth of the transfers loses its peer": Case(
        "SplitwiseTransfersFail", {SENT % "peer_lost": "0+1x20", SENT % "ok": "0+9x20"}, 5, True
    ),
    "clients hang up": Case(
        "SplitwiseTransfersFail", {SENT % "cancelled": "0+5x20", SENT % "ok": "0+5x20"}, 5, False
    ),
    "shared memory was used, and TCP is": Case(
        "SplitwiseTransfersFellBack",
        {BYTES % "shm": "0+9x20 180x40", BYTES % "tcp": "0x20 0+9x40"},
        36,
        True,
    ),
    "some peers are far and some near": Case(
        "SplitwiseTransfersFellBack", {BYTES % "shm": "0+9x60", BYTES % "tcp": "0+9x60"}, 36, False
    ),
    "only TCP has ever been used": Case(
        "SplitwiseTransfersFellBack", {BYTES % "tcp": "0+9x60"}, 36, False
    ),
    "devices that cannot be used": Case(
        "SplitwiseTransfersFellBack",
        {f'splitwise_kv_left_out_transports{{{POOL},transport="rdma"}}': "1x20"},
        6,
        True,
    ),
    "a lease outlives all requests": Case(
        "SplitwiseLeaseLeaks",
        {
            f"splitwise_kv_oldest_lease_seconds{{{POOL}}}": "0+60x20",
            f"splitwise_router_request_timeout_seconds{{{C}}}": "600x20",
        },
        13,
        True,
    ),
    "a lease is as old as requests may be": Case(
        "SplitwiseLeaseLeaks",
        {
            f"splitwise_kv_oldest_lease_seconds{{{POOL}}}": "600x20",
            f"splitwise_router_request_timeout_seconds{{{C}}}": "600x20",
        },
        13,
        False,
    ),
    "a worker that no KV gets to": Case(
        "SplitwiseWorkerCutOff", {f"splitwise_router_cut_off_workers{{{POOL}}}": "1x20"}, 2, True
    ),
    "all are reached": Case(
        "SplitwiseWorkerCutOff", {f"splitwise_router_cut_off_workers{{{POOL}}}": "0x20"}, 2, False
    ),
    "six days are left": Case(
        "SplitwiseCertificateExpires",
        {f"splitwise_kv_certificate_expiry_timestamp_seconds{{{POOL}}}": "518400x20"},
        12,
        True,
    ),
    "eight days are left, and one has no TLS": Case(
        "SplitwiseCertificateExpires",
        {
            f"splitwise_kv_certificate_expiry_timestamp_seconds{{{POOL}}}": "691200x20",
            f'splitwise_kv_certificate_expiry_timestamp_seconds{{{POOL},pod="x"}}': "0x20",
        },
        12,
        False,
    ),
    "a pod that no node takes": Case("SplitwisePoolPending", {WORKERS: "1x20"}, 6, True),
    "a pod that a node took": Case("SplitwisePoolPending", {WORKERS: "1x3 0x20"}, 6, False),
    "more is needed than may be": Case(
        "SplitwiseScalingAtBound",
        {
            f"splitwise_pool_needed_workers{{{POOL}}}": "5x20",
            f'splitwise_pool_bound_workers{{{POOL},bound="most"}}': "4x20",
        },
        11,
        True,
    ),
    "as much is needed as may be": Case(
        "SplitwiseScalingAtBound",
        {
            f"splitwise_pool_needed_workers{{{POOL}}}": "4x20",
            f'splitwise_pool_bound_workers{{{POOL},bound="most"}}': "4x20",
        },
        11,
        False,
    ),
    "a worker tells nothing": Case(
        "SplitwiseScalingSignalsStale",
        {f"splitwise_pool_silent_workers{{{POOL}}}": "1x20"},
        6,
        True,
    ),
    "the operator has not heard for a minute": Case(
        "SplitwiseScalingSignalsStale",
        {f"splitwise_pool_load_age_seconds{{{POOL}}}": "60x20"},
        6,
        True,
    ),
    "all tell": Case(
        "SplitwiseScalingSignalsStale",
        {
            f"splitwise_pool_silent_workers{{{POOL}}}": "0x20",
            f"splitwise_pool_load_age_seconds{{{POOL}}}": "2x20",
        },
        6,
        False,
    ),
    "a change is not taken up": Case(
        "SplitwiseOperatorNotReconciling",
        {f"splitwise_cluster_behind_generations{{{C}}}": "1x20"},
        6,
        True,
    ),
    "every look fails": Case(
        "SplitwiseOperatorNotReconciling",
        {LOOKS % "failed": "0+1x40", LOOKS % "done": "5x40"},
        20,
        True,
    ),
    "some looks fail": Case(
        "SplitwiseOperatorNotReconciling",
        {LOOKS % "failed": "0+1x40", LOOKS % "done": "0+1x40"},
        20,
        False,
    ),
    "the only operator is gone": Case(
        "SplitwiseOperatorDown", {LEADS % "a": "1x5 stale _x30"}, 9, True
    ),
    "another one has taken over": Case(
        "SplitwiseOperatorDown", {LEADS % "a": "1x5 stale _x30", LEADS % "b": "0x5 1x30"}, 9, False
    ),
    "there never was one": Case("SplitwiseOperatorDown", {LEADS % "a": "0x30"}, 9, False),
}


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip(NEEDS)
    return found


def document(case: Case) -> dict[str, object]:
    """The case as promtool's unit tests are written: whole alerts, with labels and annotations."""
    series = [{"series": name, "values": values} for name, values in case.series.items()]
    count = f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) or vector(0)'
    expected = [{"labels": "{}", "value": int(case.fires)}]
    check = {"expr": count, "eval_time": f"{case.minute}m", "exp_samples": expected}
    return {"interval": "1m", "input_series": series, "promql_expr_test": [check]}


def test_every_alert_fires_from_its_cause_and_from_no_other(promtool: str, tmp_path: Path) -> None:
    tests = [document(case) | {"name": name} for name, case in CASES.items()]
    file = tmp_path / "cases.yaml"
    made = {"rule_files": [str(SOURCE)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(made, width=1000), "utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_every_alert_has_cases_in_which_it_fires_and_in_which_it_does_not() -> None:
    for fires in (True, False):
        assert {case.alert for case in CASES.values() if case.fires is fires} == set(ALERTS)


def test_the_rules_are_well_formed(promtool: str) -> None:
    command = [promtool, "check", "rules", "--lint=all", "--lint-fatal", SOURCE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"


def test_rules_ask_only_for_metrics_and_labels_that_there_are() -> None:
    suffixes = ("_count", "_sum", "_bucket", "")
    known = {metric.name + suffix for metric in METRICS for suffix in suffixes} | set(RECORDS)
    for rule in rules(TEXT):
        asked = set(re.findall(r"\bsplitwise[a-z_:0-9]+", rule["expr"]))
        assert asked
        assert asked <= known, rule


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_what_is_so_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{name.lower()}"


def test_the_page_of_alerts_has_a_section_for_each_in_the_order_of_the_rules() -> None:
    page = (SOURCE.parents[1] / "docs" / "alerts.md").read_text("utf-8")
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(ALERTS)


def test_helm_and_kustomize_have_the_same_rules() -> None:
    assert CHART.read_text("utf-8") == TEXT
    assert MANIFEST.read_text("utf-8") == manifest(TEXT)
    assert yaml.safe_load(manifest(TEXT))["spec"] == yaml.safe_load(TEXT)


def test_hastened_rules_differ_in_their_times_alone() -> None:
    fast = list(rules(hastened(TEXT, 60)))
    before = next(rule for rule in rules(TEXT) if rule.get("alert") == "SplitwiseSloBurnsFast")
    after = next(rule for rule in fast if rule.get("alert") == "SplitwiseSloBurnsFast")
    assert (before["for"], after["for"]) == ("2m", "2000ms")
    assert before["expr"].replace("[1h]", "[60000ms]") == after["expr"]
    assert not [rule for rule in fast if re.search(r"\[\d+[smh]\]", rule["expr"])]
