"""What workers and routers are told for their metrics alone: nothing is decided by it."""

from typing import Any

from splitwise_core.spec import SplitwiseCluster
from splitwise_core.spec_pool import Pool


def machine(pool: Pool) -> dict[str, Any]:
    """A worker's flags for what its machine costs, draws and can do; None is left out."""
    return {
        "dollars-per-hour": pool.machine.dollars_per_hour,
        "idle-watts": pool.machine.idle_watts,
        "prompt-watts": pool.machine.prompt_watts,
        "token-watts": pool.machine.token_watts,
        "peak-flops-per-second": pool.machine.peak_flops_per_second,
        "peak-bytes-per-second": pool.machine.peak_bytes_per_second,
    }


def objectives(cluster: SplitwiseCluster) -> dict[str, Any]:
    """A router's flags for what requests are counted by; none where there are no objectives."""
    asked = cluster.spec.objectives
    if asked is None:
        return {}
    return {
        "slo-ttft-seconds": asked.ttft_seconds,
        "slo-tbt-seconds": asked.tbt_seconds,
        "slo-percentile": asked.percentile,
    }
