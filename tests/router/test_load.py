"""What a router tells at /load, and the page that shows it."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_router.busy import WINDOW_S, BusyShare
from splitwise_router.overview import WORKERS_SHOWN, fleet_rows
from splitwise_router.page import HEADERS, page
from tests.router.conftest import Start
from tests.router.support import completion, tokens_of
from tests.support.cluster import eventually
from tests.support.router import Stack, Worker


def share(*readings: tuple[float, float]) -> float:
    """Of readings `(seconds, busy seconds)`."""
    busy = BusyShare()
    for now_s, busy_s in readings:
        busy.note(busy_s, now_s)
    return busy.share


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        pytest.param([], 0.0, id="nothing was told"),
        pytest.param([(0, 7)], 0.0, id="one reading tells no rate"),
        pytest.param([(0, 0), (2, 1)], 0.5, id="half of the time"),
        pytest.param([(0, 0), (5, 5), (10, 5), (15, 5)], 0.0, id="what is long ago is forgotten"),
        pytest.param([(0, 90), (1, 91), (2, 0.5), (3, 1)], 0.5, id="a new process begins anew"),
        pytest.param([(0, 0), (1, 3)], 1.0, id="never more than all of it"),
    ],
)
def test_how_busy_a_worker_is(readings: list[tuple[float, float]], expected: float) -> None:
    assert share(*readings) == expected


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 1)), max_size=200))
def test_a_share_is_that_of_the_last_seconds_and_few_readings_are_kept(
    steps: list[tuple[float, float]],
) -> None:
    busy, now_s, busy_s = BusyShare(), 0.0, 0.0
    for seconds, part in steps:
        now_s, busy_s = now_s + seconds, busy_s + seconds * part
        busy.note(busy_s, now_s)
    assert 0 <= busy.share <= 1
    assert len(busy._readings) <= WINDOW_S / 0.25 + 3


def row(number: int, **changes: Any) -> dict[str, Any]:
    counts = ("queuedRequests", "queuedTokens", "running", "maxSequences", "kvBlocks")
    shown: dict[str, Any] = dict.fromkeys((*counts, "freeKvBlocks"), 1)
    shown |= {"pod": f"w{number:04}", "pool": "token", "role": "token", "ready": True}
    shown |= {"draining": False, "borrowed": False, "promptTokensPerSecond": 10.0}
    return shown | {"utilisation": 0.5} | changes


def test_of_a_large_fleet_the_busiest_are_listed_and_all_are_counted() -> None:
    idle = [row(i, utilisation=0.0, pool="prompt", role="prompt") for i in range(900)]
    found = fleet_rows([*idle, *(row(1000 + i) for i in range(100))])
    assert [pool["workers"] for pool in found["pools"]] == [900, 100]
    assert len(found["workers"]) == WORKERS_SHOWN
    assert found["workersLeftOut"] == 1000 - WORKERS_SHOWN
    assert sum(worker["pool"] == "token" for worker in found["workers"]) == 100
    assert len(json.dumps(found)) < 65536


def test_workers_that_are_not_ready_are_no_capacity() -> None:
    (pool,) = fleet_rows([row(1), row(2, ready=False, utilisation=0.0)])["pools"]
    assert (pool["workers"], pool["ready"], pool["utilisation"]) == (2, 1, 0.5)
    assert pool["backlogSeconds"] == 0.2  # two tokens, and ten a second


def test_it_tells_what_the_metrics_tell(shared: Stack) -> None:
    with httpx.Client(base_url=shared.url, timeout=30) as http:
        for _ in range(3):
            answer = http.post("/v1/completions", json=completion(tokens_of(shared.model), 6))
            assert answer.status_code == 200
        assert http.post("/v1/completions", json={"model": "echo"}).status_code == 400
        found = http.get("/load").json()
        again = http.get("/load")
    requests = found["requests"]
    metric = shared.metric
    assert requests["answered"] == {"200": 3, "400": 1}
    assert requests["outputTokens"] == metric("splitwise_router_output_tokens_total") == 18
    assert requests["promptTokens"] == metric("splitwise_router_prompt_tokens_total")
    assert requests["kvBytes"] == metric("splitwise_router_kv_bytes_total") > 0
    ttft = found["times"]["ttft"]
    assert ttft["counts"][-1] == metric("splitwise_request_ttft_seconds_count") == 3
    assert len(ttft["counts"]) == len(ttft["bounds"]) + 1
    assert [(pool["pool"], pool["ready"]) for pool in found["pools"]] == [
        ("prompt", 1),
        ("token", 1),
    ]
    assert again.headers["cache-control"] == "no-store"


def test_a_worker_that_is_gone_is_shown_as_not_ready(start: Start) -> None:
    workers = [Worker("p0", "prompt"), Worker("t0", "token"), Worker("t1", "token")]
    with start(workers) as stack:
        stack.workers["t1"].kill()

        def ready() -> list[bool]:
            shown = httpx.get(f"{stack.url}/load").json()["workers"]
            return [worker["ready"] for worker in shown]

        eventually(lambda: ready() == [True, True, False], 30, lambda: str(ready()))


def test_no_page_is_shown_unless_it_was_asked_for(shared: Stack) -> None:
    assert httpx.get(f"{shared.url}/status").status_code == 404


def test_the_page_may_load_nothing_and_run_only_itself(start: Start) -> None:
    with start([], status_page="on") as stack:
        answer = httpx.get(f"{stack.url}/status")
    assert answer.status_code == 200
    assert answer.text == page()
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy == HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http://" not in page().replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page()
