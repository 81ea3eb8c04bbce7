"""What workers and routers are told for their metrics alone."""

from typing import Any

import pytest

from splitwise_core.errors import UserError
from splitwise_core.latency.power import PowerModel
from splitwise_operator.render import render
from splitwise_router.main import _parser as router_parser
from splitwise_worker import config as worker_config
from tests.operator.rendered import arguments, cluster, containers, pod


def scaled(name: str, role: str, **slo: float) -> dict[str, Any]:
    law = {"by": "SLO", "maxReplicas": 4, "slo": slo}
    return {"name": name, "role": role, "autoscaling": law}


POOLS = [
    scaled("prompt", "prompt", ttftSeconds=2, tbtSeconds=0.2, percentile=90),
    scaled("token", "token", ttftSeconds=3, tbtSeconds=0.1, percentile=99),
]


def objectives(**spec: Any) -> tuple[float | None, float | None, int]:
    """What a router counts requests by."""
    (router,) = pod(render(cluster(**spec)), "demo-router")["containers"]
    asked = router_parser().parse_args(arguments(router))
    return asked.slo_ttft_seconds, asked.slo_tbt_seconds, asked.slo_percentile


def test_requests_are_counted_by_the_objectives_of_the_cluster() -> None:
    own = {"ttftSeconds": 1, "tbtSeconds": 0.05, "percentile": 95}
    assert objectives(slo=own) == (1, 0.05, 95)
    assert objectives(slo=own, pools=POOLS) == (1, 0.05, 95)


def test_without_them_the_strictest_of_the_pools_count() -> None:
    assert objectives(pools=POOLS) == (2, 0.1, 99)


def test_without_any_nothing_is_counted() -> None:
    assert objectives()[:2] == (None, None)


def test_a_worker_is_told_what_its_machine_costs_draws_and_can_do() -> None:
    machine = {
        "dollarsPerHour": 4.76,
        "idleWatts": 75,
        "promptWatts": 700,
        "tokenWatts": 380,
        "peakFlopsPerSecond": 9.894e14,
        "peakBytesPerSecond": 3.35e12,
    }
    pools = [{"name": "all", "role": "mixed", "machine": machine}]
    _, worker = containers(pod(render(cluster(pools=pools)), "demo-all"))
    told = worker_config.parse(arguments(worker))
    assert told.dollars_per_hour == 4.76
    assert told.power == PowerModel(75, 700, 380)
    assert (told.peak_flops_per_second, told.peak_bytes_per_second) == (9.894e14, 3.35e12)


def test_a_machine_without_figures_adds_no_flag() -> None:
    """So that pods of clusters that were there before stay as they are."""
    worker = pod(render(cluster()), "demo-prompt")["containers"][0]
    assert not [flag for flag in worker["args"] if "watts" in flag or "peak" in flag]


def test_half_of_the_watts_are_refused() -> None:
    with pytest.raises(UserError, match="go together"):
        cluster(pools=[{"name": "all", "role": "mixed", "machine": {"idleWatts": 60}}])
