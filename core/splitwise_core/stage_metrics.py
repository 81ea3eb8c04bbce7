"""What a router's metrics say of the stages of its requests, as the advisor takes it."""

from collections.abc import Iterable

from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from splitwise_core.metric import Metric
from splitwise_core.metrics.router import (
    E2E,
    OUTPUT_TOKENS,
    PROMPT_SPEED,
    PROMPT_TOKENS,
    STAGE_FIRST_DECODE,
    STAGE_PREFILL,
    STAGE_TRANSFER,
    TBT,
    WORKER_SESSIONS,
)
from splitwise_core.policy.arrangements import Stages


def stages_of(pages: Iterable[str], at_s: float) -> Stages:
    """All that routers have counted since they began, from their /metrics; `seconds` is `at_s`.

    Two of them, taken apart by `Stages.since`, are what came about between. Each router has a
    session to every worker, so that workers are not added up. Raises ValueError for other texts.
    """
    sums: dict[str, float] = {}
    workers: dict[str, int] = {}
    speeds: list[float] = []
    for page in pages:
        here: dict[str, int] = {}
        for family in text_string_to_metric_families(page):
            _add(family, sums, here, speeds)
        for role, count in here.items():
            workers[role] = max(count, workers.get(role, 0))
    if f"{E2E.name}_count" not in sums:
        raise ValueError(f"there is no {E2E.name} in it: that is no router's /metrics")
    return Stages(
        seconds=at_s,
        requests=_count(sums, E2E),
        prompt_tokens=int(sums.get(PROMPT_TOKENS.name, 0)),
        output_tokens=int(sums.get(OUTPUT_TOKENS.name, 0)),
        e2e_s=_sum(sums, E2E),
        prefills=_count(sums, STAGE_PREFILL),
        prefill_s=_sum(sums, STAGE_PREFILL),
        transfers=_count(sums, STAGE_TRANSFER),
        transfer_s=_sum(sums, STAGE_TRANSFER),
        first_decode_s=_sum(sums, STAGE_FIRST_DECODE),
        gaps=_count(sums, TBT),
        gap_s=_sum(sums, TBT),
        prompt_workers=workers.get("prompt", 0),
        token_workers=workers.get("token", 0),
        mixed_workers=workers.get("mixed", 0),
        prompt_tokens_per_s=sum(speeds) / len(speeds) if speeds else 0.0,
    )


def _add(
    family: Family, sums: dict[str, float], workers: dict[str, int], speeds: list[float]
) -> None:
    """Of speeds, those of pools that know theirs."""
    for sample in family.samples:
        if sample.name == WORKER_SESSIONS.name:
            role = sample.labels["role"]
            workers[role] = workers.get(role, 0) + int(sample.value)
        elif sample.name == PROMPT_SPEED.name:
            speeds += [sample.value] if sample.value > 0 else []
        elif not sample.name.endswith("_bucket"):
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value


def _count(sums: dict[str, float], metric: Metric) -> int:
    return int(sums.get(f"{metric.name}_count", 0))


def _sum(sums: dict[str, float], metric: Metric) -> float:
    return sums.get(f"{metric.name}_sum", 0.0)
