"""One request is one trace through router, workers and sidecars, whose times are true."""

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from tests.support.house import House, ask, house
from tests.support.otlp import Collector, Got, collecting

pytestmark = pytest.mark.e2e

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "sk-very-secret"  # of no account
NOBODY = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
"""Only what a client samples is traced."""

ROUTER, WORKER, SIDECAR = "splitwise-router", "splitwise-worker", "splitwise-sidecar"
ABOVE = {
    (ROUTER, "completions"): None,
    (ROUTER, "read"): "completions",
    (ROUTER, "admission"): "completions",
    (ROUTER, "attempt"): "completions",
    (ROUTER, "dispatch"): "attempt",
    (ROUTER, "first_token"): "attempt",
    (ROUTER, "stream"): "attempt",
    (WORKER, "queue"): "attempt",
    (WORKER, "prefill"): "attempt",
    (WORKER, "transfer"): "attempt",
    (WORKER, "await_kv"): "attempt",
    (WORKER, "first_decode"): "attempt",
    (WORKER, "decode"): "attempt",
    (SIDECAR, "kv.push"): "transfer",
    (SIDECAR, "kv.reserve"): "kv.push",
    (SIDECAR, "kv.send"): "kv.push",
    (SIDECAR, "kv.commit"): "kv.push",
    (SIDECAR, "kv.receive"): "await_kv",
    (SIDECAR, "kv.verify"): "kv.receive",
}
"""Every span of a request that two workers serve, and what it is under."""

TO_THE_FIRST_TOKEN = ("read", "admission", "dispatch", "queue", "prefill", "first_token")
TRUE_S = 0.001


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def built(
    tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[House]:
    environment = {**collector.environment, **NOBODY, "SPLITWISE_LOG_FORMAT": "json"}
    with house(tmp_path_factory.mktemp("house"), tiny_model, environment=environment) as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def trace(built: House, collector: Collector) -> dict[str, Got]:
    """The spans by name of one request, whose client traces it."""
    headers = {
        "traceparent": f"00-{TRACE}-{CALLER}-01",
        "authorization": f"Bearer {SECRET}",
        "x-request-id": "traced",
    }
    assert asyncio.run(ask(built)).status_code == 200  # of which nobody records anything
    assert asyncio.run(ask(built, headers)).status_code == 200
    found = collector.wait_for(lambda spans: len(spans) >= len(ABOVE))
    assert sorted((span.service, span.name) for span in found) == sorted(ABOVE)
    return {span.name: span for span in found}


def test_a_clients_trace_goes_on_through_all_processes(trace: dict[str, Got]) -> None:
    assert {span.trace for span in trace.values()} == {TRACE}
    for (_, name), above in ABOVE.items():
        assert trace[name].parent == (trace[above].id if above else CALLER), name
    assert len({span.id for span in trace.values()}) == len(ABOVE)
    assert [span.name for span in trace.values() if span.is_server] == ["completions"]


def test_the_stages_sum_to_the_time_to_the_first_token(trace: dict[str, Got], built: House) -> None:
    stages_s = sum(trace[name].seconds for name in TO_THE_FIRST_TOKEN)
    ttft_s = trace["first_token"].attributes["splitwise.ttft_seconds"]
    assert stages_s == pytest.approx(ttft_s, abs=TRUE_S)
    seen_by_client = trace["first_token"].ended_s - trace["completions"].began_s
    assert seen_by_client == pytest.approx(ttft_s, abs=TRUE_S)
    assert built.metric("router", "splitwise_request_ttft_seconds_sum") > ttft_s


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(before, after, id=f"{before} then {after}")
        for before, after in (*pairwise(TO_THE_FIRST_TOKEN), ("first_decode", "decode"))
    ],
)
def test_a_stage_begins_where_the_one_before_it_ends(
    trace: dict[str, Got], before: str, after: str
) -> None:
    assert trace[after].began_s == pytest.approx(trace[before].ended_s, abs=TRUE_S)


def test_the_hand_over_is_seen_from_both_sides(trace: dict[str, Got]) -> None:
    assert trace["transfer"].began_s == pytest.approx(trace["prefill"].ended_s, abs=TRUE_S)
    assert trace["first_decode"].began_s == pytest.approx(trace["await_kv"].ended_s, abs=TRUE_S)
    for name, within in (("kv.receive", "await_kv"), ("kv.send", "kv.push")):
        assert trace[within].began_s - TRUE_S < trace[name].began_s
        assert trace[name].ended_s < trace[within].ended_s + TRUE_S
    assert trace["kv.verify"].ended_s <= trace["await_kv"].ended_s + TRUE_S
    assert trace["kv.push"].attributes["splitwise.kv_bytes"] > 0
    assert trace["kv.push"].attributes["splitwise.transport"] == "tcp"


def test_spans_tell_which_request_and_who_served_it(trace: dict[str, Got]) -> None:
    for name in ("completions", "prefill", "decode", "kv.push", "kv.receive"):
        assert trace[name].attributes["splitwise.request_id"] == "traced", name
    attempt = trace["attempt"].attributes
    assert attempt["splitwise.prompt_worker"] == "prompt"
    assert attempt["splitwise.token_worker"] == "token"
    assert trace["completions"].attributes["http.response.status_code"] == 200
    assert not [span.name for span in trace.values() if span.error]


def test_histograms_name_the_trace(trace: dict[str, Got], built: House) -> None:
    url = f"http://127.0.0.1:{built.router}/metrics"
    page = httpx.get(url, headers={"accept": "application/openmetrics-text;version=1.0.0"}).text
    for name in ("ttft", "tbt", "e2e"):
        lines = [line for line in page.splitlines() if f"request_{name}_seconds_bucket" in line]
        assert [line for line in lines if f'# {{trace_id="{TRACE}"}}' in line], name
    assert TRACE not in httpx.get(url).text  # Prometheus's text format has no exemplars


def test_logs_are_json_and_keep_secrets(trace: dict[str, Got], built: House) -> None:
    logs = built.logs()
    lines = [json.loads(line) for line in logs.splitlines()]
    assert {line["component"] for line in lines} == {"router", "worker", "sidecar"}
    for line in lines:
        assert {"time", "level", "message"} <= line.keys()
    assert SECRET not in logs
    assert "the code of" not in logs  # what every prompt here says


def test_spans_are_counted(trace: dict[str, Got], built: House) -> None:
    spans = {"name": "splitwise_trace_spans_total"}
    assert built.metric("router", **spans, end="sent") == 7
    assert built.metric("prompt-status", **spans, end="sent") == 3
    assert built.metric("token-kv-status", **spans, end="sent") == 2
    assert built.metric("router", **spans, end="dropped") == 0
