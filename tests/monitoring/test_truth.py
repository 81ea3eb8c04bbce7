"""Dashboards tell the truth: a real cluster under load, a real Prometheus, and what clients saw."""

import asyncio
import json
import math
import shutil
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from monitoring.dashboards import BOARDS, Board
from monitoring.prometheus import NEEDS, Prometheus, prometheus, scraping
from monitoring.questions import Question, filled, questions
from splitwise_core.metric import SECONDS, STEP_SECONDS
from splitwise_core.trace import Arrival, write_trace
from tests.support.cluster import Cluster, eventually, running, splitwise, write_cluster
from tests.support.open_streams import OpenStreams
from tests.support.ports import free_port

pytestmark = pytest.mark.e2e

SCRAPED_EVERY_S = 1.0
TRACE = [Arrival(number / 12, 40 + 7 * (number % 9), 8 + number % 5) for number in range(60)]
WHOLE = {"namespace": "default", "cluster": "test", "pool": ".*", "__rate_interval": "5m"}
"""A window that reaches back to the start, when Prometheus saw every counter at 0."""
LATELY = WHOLE | {"__rate_interval": "7s"}
"""A window that lies within the time that was watched, on the fastest machine too: the trace takes
5 s, and what follows it 2. So its rates are those of the end."""
NOW = WHOLE | {"__rate_interval": "5s"}
MACHINE = {
    "dollarsPerHour": 2.5,
    "idleWatts": 50,
    "promptWatts": 300,
    "tokenWatts": 200,
    "peakFlopsPerSecond": 1e12,
    "peakBytesPerSecond": 1e11,
}
STREAMS = 48
PLACES = 8
"""Sequences that the token worker may decode at a time: the other streams wait."""
POOLS = [
    {"name": "prompt", "role": "prompt", "kvMemory": "256Mi", "machine": MACHINE},
    {"name": "token", "role": "token", "kvMemory": "256Mi", "machine": MACHINE}
    | {"maxSequences": PLACES},
]
OBJECTIVES = {"ttftSeconds": 60, "tbtSeconds": 10, "percentile": 99}
"""Any answer keeps to them, on any machine."""
OF_CLUSTERS = [board for board in BOARDS if board.variables]
MOST = {"percentunit": 1.01, "s": 20 * 365 * 86400}
"""By unit, what no value can be above: a certificate lasts for years."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A cluster that has answered a trace, the Prometheus that saw it, and what its client saw."""

    cluster: Cluster
    prometheus: Prometheus
    report: dict[str, Any]
    ended_s: float

    def ask(self, question: Question, variables: dict[str, str], at_s: float) -> dict[str, float]:
        """The value of each line of the answer, by what its legend says."""
        found = self.prometheus.ask(filled(question.expr, variables), at_s)
        return {question.named(sample.labels): sample.value for sample in found}

    def panel(self, board: str, panel: str, variables: dict[str, str] = WHOLE) -> dict[str, float]:
        """All lines of a panel at the end of the trace; over the whole of it, unless they say."""
        return self._panel(board, panel, variables, self.ended_s)

    def panel_now(self, board: str, panel: str) -> dict[str, float]:
        """All lines of a panel, over the last seconds."""
        return self._panel(board, panel, NOW, time.time())

    def _panel(
        self, board: str, panel: str, variables: dict[str, str], at_s: float
    ) -> dict[str, float]:
        (found,) = (one for one in BOARDS if one.uid == f"splitwise-{board}")
        asked = [question for question in questions(found) if question.panel == panel]
        assert asked, panel
        return {
            name: value
            for question in asked
            for name, value in self.ask(question, variables, at_s).items()
        }


@pytest.fixture(scope="module")
def scene(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One start for all: watched from before the first request."""
    if shutil.which("prometheus") is None:
        pytest.skip(NEEDS)
    directory = tmp_path_factory.mktemp("truth")
    file = write_cluster(directory, tiny_model, pools=POOLS, slo=OBJECTIVES)
    trace = directory / "trace.csv"
    trace.write_text("".join(write_trace(TRACE)))
    with running(file, directory / "state", "--port", str(free_port())) as cluster:
        configuration = scraping(directory / "state" / "prometheus.json", SCRAPED_EVERY_S)
        listen = f"127.0.0.1:{free_port()}"
        with prometheus(configuration, directory, listen) as watching:
            wait_until_watched(watching)
            report = replay(cluster, trace)
            asked = "splitwise_router_output_tokens_total"
            tokens = sum(arrival.output_tokens for arrival in TRACE)
            eventually(lambda: value(watching, asked) == tokens, 20, lambda: asked)
            time.sleep(2 * SCRAPED_EVERY_S)  # what other processes counted last
            yield Scene(cluster, watching, report, time.time())


def wait_until_watched(watching: Prometheus) -> None:
    """Every process was scraped, and the links between the workers are measured."""
    eventually(lambda: value(watching, "sum(up)") == 5, 30, lambda: str(watching.targets()))
    measured = "sum(splitwise_router_link_bytes_per_second)"
    eventually(lambda: value(watching, measured) > 0, 30, lambda: measured)


def value(watching: Prometheus, expr: str) -> float:
    """0 while there is none."""
    return sum(sample.value for sample in watching.ask(expr))


def replay(cluster: Cluster, trace: Path) -> dict[str, Any]:
    """What `splitwise bench` says of the trace, every answer of which was right."""
    file = trace.with_name("report.json")
    done = splitwise("bench", "--url", cluster.url, "--trace", str(trace), "--json", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(file.read_text())
    assert report["requests"]["ok"] == len(TRACE)
    return report


@pytest.mark.parametrize("board", OF_CLUSTERS, ids=lambda board: board.uid)
def test_every_query_of_a_dashboard_has_an_answer_that_can_be(scene: Scene, board: Board) -> None:
    for question in (one for one in questions(board) if not one.needs_operator):
        found = scene.prometheus.ask(filled(question.expr, WHOLE), scene.ended_s)
        assert found, question
        for sample in found:
            most = MOST.get(question.unit, math.inf)
            assert 0 <= sample.value <= most, (question, sample)
            assert math.isfinite(sample.value), (question, sample)


@pytest.mark.parametrize("what", ["ttft", "tbt", "e2e"])
def test_percentiles_are_within_a_bucket_of_what_the_client_measured(
    scene: Scene, what: str
) -> None:
    panels = {"ttft": "Time to first token", "tbt": "Time between tokens", "e2e": "Whole requests"}
    buckets = STEP_SECONDS if what == "tbt" else SECONDS
    shown = scene.panel("cluster", panels[what])
    assert shown.keys() == {"P50", "P90", "P99"}
    for name, value_s in shown.items():
        client_s = scene.report[f"{what}_s"][name.lower()]
        apart = bisect_left(buckets, value_s) - bisect_left(buckets, client_s)
        assert abs(apart) <= 1, (name, value_s, client_s)


def test_totals_are_what_the_client_sent_and_got(scene: Scene) -> None:
    def total(expr: str) -> float:
        return scene.prometheus.number(f"sum({expr})", scene.ended_s)

    requests = len(TRACE)
    prompts = sum(arrival.prompt_tokens for arrival in TRACE)
    answers = sum(arrival.output_tokens for arrival in TRACE)
    assert total('splitwise_router_http_requests_total{status="200"}') == requests
    assert total("splitwise_router_prompt_tokens_total") == prompts
    assert total("splitwise_router_output_tokens_total") == answers
    assert total("splitwise_request_ttft_seconds_count") == requests


def test_sums_over_pools_are_the_totals(scene: Scene) -> None:
    def total(expr: str) -> float:
        return scene.prometheus.number(f"sum({expr})", scene.ended_s)

    computed = "splitwise_worker_computed_tokens_total"
    saved = total('splitwise_prefix_cache_hit_tokens_total{saves="compute"}')
    prompts = total(f'{computed}{{kind="prompt",pool="prompt"}}')
    assert prompts + saved == total("splitwise_router_prompt_tokens_total")
    later = total(f'{computed}{{kind="token",pool="token"}}')
    first = total("splitwise_request_prefill_seconds_count")
    assert first + later == total("splitwise_router_output_tokens_total")
    moved = "splitwise_kv_transfer_bytes_total"
    sent, received = (total(f'{moved}{{direction="{way}"}}') for way in ("sent", "received"))
    assert sent == received == scene.report["kv_bytes"]


def test_stages_add_up_to_no_more_than_what_the_client_waited(scene: Scene) -> None:
    shown = scene.panel("request", "Time to first token, and what the prompt worker had of it")
    assert 0 < shown["queue and prefill"] <= shown["time to first token"]
    assert shown["time to first token"] <= scene.report["ttft_s"]["mean"]
    stages = scene.panel("request", "From arrival to the second token")
    for name, seconds in stages.items():
        stage = name[2:].replace(" ", "_")
        assert seconds == pytest.approx(scene.report["stages_s"][stage]["mean"], rel=0.02), name


def test_goodput_and_prices_are_those_of_the_spec(scene: Scene) -> None:
    assert scene.report["goodput_ratio"] == 1
    kept = scene.panel("cluster", "Kept to the objectives")
    assert kept == {
        "time to first token": 1,
        "time between tokens": 1,
        "both": 1,
        "part": 1,
        "asked for": pytest.approx(0.99),
    }
    assert scene.panel("cluster", "Error budget used up") == {"times": 0}
    cost = scene.panel("cluster", "Cost per hour", LATELY)
    # Rates over seconds, some of which a busy machine does not scrape in.
    assert cost == {pool: pytest.approx(2.5, rel=0.4) for pool in ("prompt", "token")}
    power = scene.panel("cluster", "Power", LATELY)
    assert power.keys() == {"prompt machine", "token machine"}
    for watts in power.values():
        assert 0.6 * MACHINE["idleWatts"] <= watts <= 1.4 * MACHINE["promptWatts"]


def test_a_pod_and_a_pool_are_told_apart_as_in_kubernetes(scene: Scene) -> None:
    found = scene.prometheus.ask("splitwise_worker_running_sequences", scene.ended_s)
    keys = ("namespace", "cluster", "pool", "role", "pod", "container")
    assert sorted(tuple(sample.labels[key] for key in keys) for sample in found) == [
        ("default", "test", "prompt", "prompt", "test-prompt-0", "worker"),
        ("default", "test", "token", "token", "test-token-0", "worker"),
    ]


async def test_queues_and_utilisation_are_those_of_the_load(scene: Scene) -> None:
    """Comes last: what it counts is not of the trace."""
    waiting, utilisation = "Requests in flight and waiting", "Utilisation"
    shown: list[tuple[float, float]] = []
    async with OpenStreams.of(scene.cluster.url, STREAMS) as load:
        while True:
            at_s = await asyncio.to_thread(scraped, scene.prometheus)
            queues = await asyncio.to_thread(scene.panel_now, "fleet", waiting)
            have_all_come = shown or sum(queues.values()) == STREAMS
            if have_all_come and at_s == await asyncio.to_thread(scraped, scene.prometheus):
                shown.append((at_s, sum(queues.values())))
            used = await asyncio.to_thread(scene.panel_now, "cluster", utilisation)
            decoding = await asyncio.to_thread(scene.panel_now, "cluster", "Sequences that decode")
            are_told_apart = used.get("token", 0) > 0.9 and used.get("prompt", 1) < 0.02
            if are_told_apart and decoding and load.knows(shown[-1:], more_than=PLACES):
                break
            await asyncio.sleep(0.3)
            assert load.open, f"the load ended before its pool looked saturated: {used}"
    assert 0 < decoding["token"] <= decoding["token may"] == PLACES
    for at_s, count in shown:
        least, most = load.open_about(at_s)
        assert least <= count <= most, (at_s, count)


def scraped(watching: Prometheus) -> float:
    """When the router was scraped last; seconds since 1970."""
    return value(watching, "timestamp(splitwise_router_inflight_requests)")
