"""A healthy cluster under load: its pages of metrics, and a real Prometheus with our rules, in
which minutes last two seconds.

One cluster for all tests here, in their order.
"""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.prometheus import NEEDS
from splitwise_core.metric import Component
from splitwise_operator.names import SIDECAR_STATUS_PORT
from tests.support.asking import asked
from tests.support.cluster import Cluster, eventually, running, write_cluster
from tests.support.ports import free_port
from tests.support.watched import Pages, Watch, watching

pytestmark = pytest.mark.e2e

WITHIN_S = 120.0
OBJECTIVES = {"ttftSeconds": 5, "tbtSeconds": 2, "percentile": 90}
MACHINE = {
    "dollarsPerHour": 3.6,
    "idleWatts": 40,
    "promptWatts": 90,
    "tokenWatts": 60,
    "peakFlopsPerSecond": 1e11,
    "peakBytesPerSecond": 2e10,
}
FAILS = {  # counts of what went wrong: 0 as long as nothing does
    *("splitwise_router_retries_total", "splitwise_router_discovery_failures_total"),
    *("splitwise_router_key_failures_total", "splitwise_router_cut_off_workers"),
    *("splitwise_router_rejected_requests_total", "splitwise_kv_late_writes_total"),
    *("splitwise_kv_repushes_total", "splitwise_kv_damaged_layers_total"),
    *("splitwise_kv_refused_calls_total", "splitwise_kv_key_failures_total"),
    *("splitwise_kv_forced_fences_total", "splitwise_kv_certificates_refused_total"),
    *("splitwise_kv_connections_refused_total", "splitwise_kv_left_out_transports"),
    *("splitwise_log_dropped_lines_total",),
}
UNTRACED = {"splitwise_trace_spans_total"}  # nobody asks for traces here
DRAINS = {  # while a worker drains, of which its last scrape may know nothing
    *("splitwise_router_moves_total", "splitwise_request_move_pause_seconds"),
    *("splitwise_router_moved_kv_bytes_total", "splitwise_draining_workers"),
    *("splitwise_worker_drained_sequences_total",),
}
BORROWS = {  # where pools borrow, which these do not
    *("splitwise_request_role_change_seconds", "splitwise_worker_borrowed_workers"),
    *("splitwise_worker_loans_total", "splitwise_worker_misplaced_workers"),
}
ROUNDED = {  # 0 where a link's larger probe was as quick as its smaller one
    "splitwise_router_link_latency_seconds",
}
CROWDED = {  # where more waits than a load that is served at once lets wait
    *("splitwise_router_queued_requests", "splitwise_router_expected_wait_seconds"),
    *("splitwise_worker_queue_requests", "splitwise_worker_queue_tokens"),
    *("splitwise_router_worker_prompt_tokens_per_second",),
    *("splitwise_worker_backlog_seconds", "splitwise_prefix_cache_evicted_blocks_total"),
}


@pytest.fixture(scope="module")
def cluster(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One prompt worker and two token workers, with objectives and what their machines cost."""
    directory = tmp_path_factory.mktemp("watched")
    pools = [
        {"name": "prompt", "role": "prompt", "replicas": 1, "kvMemory": "256Mi"},
        {"name": "token", "role": "token", "replicas": 2, "kvMemory": "256Mi"},
    ]
    file = write_cluster(
        directory,
        tiny_model,
        pools=[pool | {"machine": MACHINE} for pool in pools],
        router={"maxQueueSeconds": 8, "maxQueuedRequests": 5000},
        transfer={"probeSeconds": 5},
        slo=OBJECTIVES,
    )
    with running(file, directory / "state", "--port", str(free_port())) as made:
        yield made


@pytest.fixture(scope="module")
def watch(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    if shutil.which("prometheus") is None:
        pytest.skip(NEEDS)
    urls = [url for pod in cluster.pods() for url in pod["metrics"]]
    listen = f"127.0.0.1:{free_port()}"
    labels = {"namespace": "default", "cluster": "test"}
    with watching(tmp_path_factory.mktemp("watch"), listen, urls, **labels) as made:
        eventually(lambda: made.all_up(len(urls)), 30, cluster.logs)
        yield made


def test_every_metric_moves_under_load_and_none_has_series_for_requests(cluster: Cluster) -> None:
    pages = {
        component: Pages(component)
        for component in (Component.ROUTER, Component.WORKER, Component.SIDECAR)
    }

    pods = cluster.pods()

    def scrape() -> None:
        for pod in pods:
            serves = Component.ROUTER if pod["role"] == "router" else Component.WORKER
            for url in pod["metrics"]:
                is_sidecars = url.endswith(f":{SIDECAR_STATUS_PORT}/metrics")
                pages[Component.SIDECAR if is_sidecars else serves].read(url)

    may_stand = FAILS | UNTRACED | DRAINS | BORROWS | ROUNDED | CROWDED
    with asked(cluster.url) as statuses:
        give_up = time.monotonic() + WITHIN_S
        while True:
            scrape()
            still = {name for one in pages.values() for name in one.still()} - may_stand
            if not still:
                break
            assert time.monotonic() < give_up, f"these never moved: {sorted(still)}"
        before = {component: set(one.series) for component, one in pages.items()}
        answered = sum(statuses.values())
        eventually(lambda: sum(statuses.values()) >= answered + 100, WITHIN_S, cluster.logs)
        scrape()
    assert set(statuses) == {"200"}
    for component, one in pages.items():
        new = one.series - before[component]
        assert len(new) < 20, f"100 requests have added {len(new)} series: {sorted(new)[:20]}"
        assert one.largest < 200_000
    told = set().union(*(one.told for one in pages.values()))
    assert not told & {"splitwise_kv_left_out_transports"}, "nothing was left out here"


def test_no_alert_fires_while_all_is_well(cluster: Cluster, watch: Watch) -> None:
    ratios = ("pool_busy", "pool_kv_used", "pool_model_flops", "pool_model_bandwidth")
    with asked(cluster.url):
        time.sleep(12)  # six minutes of the rules
        everywhere = {"prompt", "token"}
        eventually(
            lambda: all(watched_pools(watch, ratio) == everywhere for ratio in ratios),
            60,
            cluster.logs,
        )
    assert watch.ever() == set()
    for ratio in ratios:
        samples = watch.prometheus.ask(f"max_over_time(splitwise:{ratio}:ratio[1m])")
        # A rate over two seconds, which scrapes do not divide evenly.
        assert all(0 <= sample.value <= 1.5 for sample in samples), (ratio, samples)


def watched_pools(watch: Watch, ratio: str) -> set[str]:
    """The pools that a recording rule has had an answer for."""
    samples = watch.prometheus.ask(f"max_over_time(splitwise:{ratio}:ratio[1m])")
    return {sample.labels["pool"] for sample in samples}
