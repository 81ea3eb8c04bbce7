"""What a router's traces say when something goes wrong, and what a bad collector costs it."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.router.conftest import Start
from tests.router.support import WORDS, completion, tokens_of
from tests.support.otlp import Collector, Got, collecting
from tests.support.router import Router, Stack, Worker

ALL = {"OTEL_TRACES_SAMPLER": "always_on"}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


def ask(stack: Stack, model: Path, count: int = 1, **more: Any) -> httpx.Response:
    """The last of `count` requests with a whole answer."""
    body = completion(tokens_of(model), len(tokens_of(model)), **more)
    for _ in range(count):
        answer = httpx.post(f"{stack.url}/v1/completions", json=body, timeout=30)
    return answer


def named(spans: list[Got], name: str) -> list[Got]:
    return sorted((s for s in spans if s.name == name), key=lambda span: span.began_s)


def whole(collector: Collector) -> list[Got]:
    """The spans of one request, which the collector forgets."""
    found = collector.wait_for(lambda spans: bool(named(spans, "completions")))
    collector.spans.clear()
    return found


def test_each_attempt_has_a_span_and_says_how_it_failed(
    start: Start, model: Path, collector: Collector
) -> None:
    bad = Worker("m0", "mixed", {"fail_count": 1, "fail_outcome": "TRANSPORT_FAILED"})
    environment = collector.environment | ALL | {"SPLITWISE_LOG_FORMAT": "json"}
    with start([bad], environment=environment, retries=3) as stack:
        assert ask(stack, model).json()["choices"][0]["text"] == WORDS
        spans = whole(collector)
        first, second = named(spans, "attempt")
        assert (first.error, second.error) == ("transport_failed", "")
        assert len(named(spans, "admission")) == 2
        assert first.ended_s <= named(spans, "admission")[1].began_s + 0.001
        (root,) = named(spans, "completions")
        assert (root.parent, root.error) == ("", "")
        _, log = stack.router.stop()
    said = [json.loads(line) for line in log.splitlines()]
    (failed,) = [line for line in said if line["message"] == "attempt failed"]
    assert failed["trace_id"] == root.trace
    assert failed["request_id"] == root.attributes["splitwise.request_id"]


def test_a_move_is_part_of_the_trace(start: Start, model: Path, collector: Collector) -> None:
    asks = {"asks_for_peer": 1000, "asks_after_tokens": 5}
    workers = [Worker("p0", "prompt"), Worker("t0", "token", asks), Worker("t1", "token", asks)]
    with start(workers, environment=collector.environment | ALL) as stack:
        ask(stack, model)
        moves = named(whole(collector), "move")
        assert {move.attributes["splitwise.to"] for move in moves} <= {"t0", "t1"}
        assert moves[0].attributes["splitwise.result"] == "moved"


def test_every_choice_has_its_stages(start: Start, model: Path, collector: Collector) -> None:
    with start([Worker("m0", "mixed")], environment=collector.environment | ALL) as stack:
        ask(stack, model, n=3)
        spans = whole(collector)
        for name in ("read", "admission", "attempt"):
            choices = sorted(s.attributes["splitwise.choice"] for s in named(spans, name))
            assert choices == [0, 1, 2], name
        assert len(named(spans, "stream")) == 3


def test_a_request_that_is_refused_has_a_trace_too(
    start: Start, model: Path, collector: Collector
) -> None:
    with start([], environment=collector.environment | ALL) as stack:
        assert ask(stack, model).status_code == 503
        (root,) = named(whole(collector), "completions")
        assert root.error == "HTTP status 503"


def test_a_collector_that_hangs_or_is_down_loses_spans_and_no_request(
    start: Start, model: Path
) -> None:
    sizes = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    times = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with collecting() as collector:
        collector.answers.clear()
        environment = collector.environment | ALL | sizes | times
        with start([Worker("m0", "mixed")], environment=environment) as stack:
            assert ask(stack, model, count=20).status_code == 200
            assert stack.metric('splitwise_trace_spans_total{end="dropped"}') > 0
            assert stack.metric('splitwise_trace_spans_total{end="sent"}') == 0
            status, _ = stack.router.stop()
            assert status == 0


def test_what_cannot_be_done_ends_the_router_with_the_fix(tmp_path: Path, model: Path) -> None:
    router = Router(tmp_path)
    router.list_workers([])
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "zipkin"}
    done = subprocess.run(
        router.command(model), env=environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "OTEL_TRACES_EXPORTER: 'zipkin' is neither otlp nor none" in done.stderr
    assert "fix: " in done.stderr
