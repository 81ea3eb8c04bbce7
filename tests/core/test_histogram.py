"""Our histogram is moved at less cost than prometheus_client's, and shows the same."""

import re
from threading import Thread

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics

from splitwise_core.histogram import Histogram
from splitwise_core.metric import SECONDS
from splitwise_core.telemetry import Telemetry  # noqa: F401  # no `_created` series from here on

seconds = st.floats(0, 1e4) | st.sampled_from(SECONDS)
exemplars = st.none() | st.builds(lambda trace: {"trace_id": trace}, st.text("0123456789abcdef"))


def page(kind: type[prometheus_client.Histogram], moves: list[tuple[str, float, object]]) -> str:
    """What is shown of a histogram, without the times of its exemplars."""
    registry = CollectorRegistry()
    made = kind("h_seconds", "Help.", ("pool",), registry=registry, buckets=SECONDS)
    for pool, amount, exemplar in moves:
        made.labels(pool).observe(amount, exemplar)
    return re.sub(r"(# {.*} \S+) \S+", r"\1", openmetrics(registry).decode())


@given(st.lists(st.tuples(st.sampled_from("ab"), seconds, exemplars)))
def test_it_shows_what_prometheus_client_would(moves: list[tuple[str, float, object]]) -> None:
    assert page(Histogram, moves) == page(prometheus_client.Histogram, moves)


def test_threads_that_move_it_at_once_lose_nothing() -> None:
    registry = CollectorRegistry()
    made = Histogram("h_seconds", "Help.", registry=registry, buckets=(1.0,))

    def move() -> None:
        for _ in range(5000):
            made.observe(2.0)

    threads = [Thread(target=move) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.get_sample_value("h_seconds_count") == 40000
    assert registry.get_sample_value("h_seconds_sum") == pytest.approx(80000)
    assert registry.get_sample_value("h_seconds_bucket", {"le": "1.0"}) == 0
