"""Traces cost nothing where nobody asks for them, and never wait where somebody does."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from splitwise_core.errors import UserError
from splitwise_core.metric import Component
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing import (
    Recorder,
    Span,
    SpanContext,
    Tracing,
    open_tracing,
    parse_traceparent,
    unix_offset_s,
)
from splitwise_core.tracing.ahead import MOST_READY, Ahead
from tests.support.cluster import eventually
from tests.support.otlp import Collector, collecting

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
CALLER = SpanContext(int(TRACE, 16), int(SPAN, 16))


def opened(environment: dict[str, str], telemetry: Telemetry | None = None) -> Tracing:
    return open_tracing(Component.ROUTER, environment, telemetry or Telemetry(Component.ROUTER), {})


def span(number: int = 1) -> Span:
    return Span("work", SpanContext.new(), 0, float(number), number + 0.5, {"number": number})


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_a_context_reads_as_it_was_written(trace_id: int, span_id: int) -> None:
    context = SpanContext(trace_id, span_id)
    assert parse_traceparent(context.traceparent) == (context, True)
    assert context.child().trace_id == trace_id


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", (CALLER, True), id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", (CALLER, False), id="not sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", (CALLER, True), id="with a flag of level 2"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-more", (CALLER, True), id="of a later version"),
        pytest.param(f"00-{TRACE}-{SPAN}-01-more", None, id="longer than its version allows"),
        pytest.param(f"ff-{TRACE}-{SPAN}-01", None, id="of the version that is none"),
        pytest.param(f"00-{'0' * 32}-{SPAN}-01", None, id="no trace"),
        pytest.param(f"00-{TRACE}-{'0' * 16}-01", None, id="no span"),
        pytest.param(f"00-{TRACE.upper()}-{SPAN}-01", None, id="upper case"),
        pytest.param(f"00-{TRACE}-{SPAN}", None, id="no flags"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_a_traceparent(text: str, found: object) -> None:
    assert parse_traceparent(text) == found


def test_the_time_of_day_is_taken_when_no_turn_is_lost() -> None:
    """The second of three tries takes no time; in the others another thread has its turn."""
    monotonic = iter([0.0, 5.0, 10.0, 10.0, 20.0, 27.0])
    unix = iter([100.0 + 4.0, 100.0 + 10.0, 100.0 + 21.0])
    assert unix_offset_s(lambda: next(monotonic), lambda: next(unix)) == 100.0


@given(st.text())
def test_no_header_breaks_the_reader(text: str) -> None:
    parse_traceparent(text)


@given(st.integers(1, 9), st.lists(st.booleans(), max_size=60))
def test_a_full_queue_drops_and_counts(most: int, adds: list[bool]) -> None:
    drops: list[None] = []
    recorder = Recorder(most, 3, lambda: drops.append(None))
    added = taken = 0
    for is_added in adds:
        if is_added:
            recorder.add(span())
            added += 1
        else:
            taken += len(recorder.take())
        assert added - taken - len(drops) <= most
    while spans := recorder.take():
        taken += len(spans)
    assert taken + len(drops) == added


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="nothing said"),
        pytest.param(
            {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"},
            id="an endpoint for others",
        ),
        pytest.param({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, id="disabled"),
    ],
)
def test_who_asks_for_no_traces_gets_none(environment: dict[str, str]) -> None:
    tracing = opened(environment)
    assert not tracing.recorder.is_on
    assert tracing.sample((CALLER, True)) is None
    tracing.close()


def test_off_is_without_opentelemetry() -> None:
    code = (
        "import sys, splitwise_router.service, splitwise_sidecar.process, splitwise_worker.spans\n"
        "from splitwise_core.metric import Component\n"
        "from splitwise_core.telemetry import Telemetry\n"
        "from splitwise_core.tracing import open_tracing\n"
        "open_tracing(Component.ROUTER, {}, Telemetry(Component.ROUTER), {})\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "OTEL_EXPORTER_OTLP_PROTOCOL",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "many"},
            "OTEL_BSP_MAX_QUEUE_SIZE",
        ),
    ],
    ids=["another exporter", "another protocol", "no number"],
)
def test_what_cannot_be_done_is_refused_by_name(environment: dict[str, str], names: str) -> None:
    with pytest.raises(UserError) as refused:
        opened(environment)
    assert refused.value.where == names


def test_without_the_library_the_fix_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "splitwise_core.tracing.exporter", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)  # as where it is not installed
    with pytest.raises(UserError, match=r"splitwise\[tracing\]"):
        opened({"OTEL_TRACES_EXPORTER": "otlp"})


def test_what_is_recorded_arrives_by_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        batches = {"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}
        tracing = _towards(collector, monkeypatch, **batches)
        for number in (1, 2):
            tracing.recorder.add(span(number))
        collector.wait_for(lambda spans: len(spans) == 2)  # a whole batch waits for nothing
        tracing.recorder.add(span(3))
        tracing.close()
        assert [got.attributes["number"] for got in collector.spans] == [1, 2, 3]
        assert collector.spans[0].service == "splitwise-router"
        assert collector.spans[0].seconds == pytest.approx(0.5)


@pytest.mark.parametrize("ratio", ["0", "1"], ids=["none", "all"])
def test_a_client_decides_for_its_own_requests(monkeypatch: pytest.MonkeyPatch, ratio: str) -> None:
    with collecting() as collector:
        sampler = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
        tracing = _towards(collector, monkeypatch, **sampler, OTEL_TRACES_SAMPLER_ARG=ratio)
        child = tracing.sample((CALLER, True))
        assert child is not None
        assert child.trace_id == CALLER.trace_id != child.span_id
        assert tracing.sample((CALLER, False)) is None
        assert (tracing.sample(None) is not None) == (ratio == "1")
        tracing.close()


def test_one_request_in_ten_is_traced_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        tracing = _towards(collector, monkeypatch)
        share = sum(tracing.sample(None) is not None for _ in range(5000)) / 5000
        assert 0.05 < share < 0.15  # 12 standard deviations
        tracing.close()


class Sampler:
    """Traces every request, and knows which ones it was asked about."""

    def __init__(self) -> None:
        self.decided: list[SpanContext] = []

    def __call__(self, caller: tuple[SpanContext, bool] | None) -> SpanContext:
        self.decided.append(caller[0].child() if caller else SpanContext.new())
        return self.decided[-1]


def test_a_decision_made_ahead_is_the_samplers_own_and_for_one_request() -> None:
    sampler = Sampler()
    ahead = Ahead(sampler)
    ahead.decide()
    assert len(sampler.decided) == 1
    assert [ahead.sample(None), ahead.sample(None)] == sampler.decided  # the second one then


def test_what_a_client_brings_is_never_decided_ahead() -> None:
    sampler = Sampler()
    ahead = Ahead(sampler)
    ahead.decide()
    assert ahead.sample((CALLER, True)) == sampler.decided[1]
    assert sampler.decided[1].trace_id == CALLER.trace_id
    assert ahead.sample(None) == sampler.decided[0]


def test_no_more_decisions_are_ready_than_requests_come_at_once() -> None:
    sampler = Sampler()
    ahead = Ahead(sampler)
    for _ in range(MOST_READY + 10):
        ahead.decide()
    assert len(sampler.decided) == MOST_READY


def test_a_collector_that_hangs_costs_spans_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry(Component.ROUTER)
    sizes = {"OTEL_BSP_MAX_QUEUE_SIZE": "4", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2"}
    with collecting() as collector:
        collector.answers.clear()
        tracing = _towards(collector, monkeypatch, telemetry, **sizes)
        for number in range(1, 101):
            tracing.recorder.add(span(number))
        page = generate_latest(telemetry.registry).decode()
        assert _count(page, "dropped") >= 100 - 4 - 2 * 2
        tracing.close()  # and ends


def test_a_collector_that_is_down_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    telemetry = Telemetry(Component.ROUTER)
    with collecting() as collector:
        environment = collector.environment | {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tracing = opened(environment, telemetry)
    tracing.recorder.add(span())
    eventually(
        lambda: _count(generate_latest(telemetry.registry).decode(), "failed") == 1,
        within_s=30,
        message=lambda: generate_latest(telemetry.registry).decode(),
    )
    tracing.close()


def _towards(
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    telemetry: Telemetry | None = None,
    **more: str,
) -> Tracing:
    """The SDK reads the process's own environment."""
    environment = collector.environment | more
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return opened(environment, telemetry)


def _count(page: str, end: str) -> float:
    start = f'splitwise_trace_spans_total{{end="{end}"}} '
    return next(
        float(line.removeprefix(start)) for line in page.splitlines() if line.startswith(start)
    )
