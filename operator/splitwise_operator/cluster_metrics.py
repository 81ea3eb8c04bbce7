"""What the operator's metrics say of clusters and pools: status, spec and the last look at loads.

All of it is read when somebody scrapes, from what is in memory anyway; nothing is counted.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from splitwise_core.metric import Metric
from splitwise_core.metrics.operator import (
    CLUSTER_BEHIND,
    CLUSTER_CONDITION,
    CLUSTERS,
    POOL_BACKLOG,
    POOL_BOUND,
    POOL_LOOK_AGE,
    POOL_NEEDED,
    POOL_SCALING,
    POOL_SILENT,
    POOL_TAKEN,
    POOL_WORKERS,
)
from splitwise_core.telemetry import Telemetry
from splitwise_operator.looks import Look, Looks, PoolLook
from splitwise_operator.names import Object
from splitwise_operator.observed import Pod, Seen
from splitwise_operator.store import Key, Store

Sample = tuple[Metric, tuple[str, ...], float]
"""A gauge, the values of its labels, and its own."""

_STATES: Final = ("desired", "current", "ready", "updated", "draining")
_SHOWN: Final = (
    *(CLUSTER_BEHIND, CLUSTER_CONDITION, POOL_WORKERS, POOL_BOUND, POOL_NEEDED),
    *(POOL_BACKLOG, POOL_TAKEN, POOL_SILENT, POOL_LOOK_AGE, POOL_SCALING),
)


def show_clusters(
    telemetry: Telemetry, store: Store, looks: Looks, clock: Callable[[], float] = time.monotonic
) -> None:
    """From now on each scrape shows what `store` and `looks` know then, of clusters and pools."""

    def show() -> None:
        samples: dict[str, dict[tuple[str, ...], float]] = {one.name: {} for one in _SHOWN}
        for key, body in dict(store.clusters).items():  # a copy in one go: it is another thread's
            pods = [seen for seen in store.objects(key).values() if isinstance(seen.part, Pod)]
            for metric, labels, value in _samples(key, body, pods, looks.newest(key), clock()):
                samples[metric.name][labels] = value
        for metric in _SHOWN:
            telemetry.show_only(metric, samples[metric.name])

    telemetry.gauge(CLUSTERS).set_function(lambda: len(store.clusters))
    telemetry.before_scrape(show)


def _samples(
    key: Key, body: Object, pods: list[Seen], look: Look | None, now_s: float
) -> Iterator[Sample]:
    status = body.get("status") or {}
    generation = body["metadata"]["generation"]
    yield CLUSTER_BEHIND, key, generation - status.get("observedGeneration", 0)
    for condition in status.get("conditions", []):
        said = (condition["type"], condition["status"], condition["reason"])
        yield CLUSTER_CONDITION, (*key, *said), 1
    for pool in status.get("pools", []):
        labels = (*key, pool["role"], pool["name"])
        for state in _STATES:
            yield POOL_WORKERS, (*labels, state), pool[state]
        waits = sum(_waits(one) for one in pods if one.pool == pool["name"])
        yield POOL_WORKERS, (*labels, "unschedulable"), waits
    for pool in body["spec"].get("pools", []):
        labels = (*key, str(pool.get("role")), str(pool.get("name")))
        yield from _scaling(labels, pool.get("autoscaling") or {}, look, now_s)


def _waits(one: Seen) -> bool:
    return isinstance(one.part, Pod) and one.part.unschedulable is not None and not one.is_leaving


def _scaling(
    labels: tuple[str, ...], asked: Mapping[str, object], look: Look | None, now_s: float
) -> Iterator[Sample]:
    """Of a pool that the operator scales."""
    most, by = asked.get("maxReplicas"), asked.get("by")
    if not isinstance(most, int) or by not in ("Load", "SLO"):
        return
    least = asked.get("minReplicas", 1)
    yield POOL_BOUND, (*labels, "most"), most
    yield POOL_BOUND, (*labels, "least"), least if isinstance(least, int) else 1
    pool = look.pools.get(labels[-1]) if look is not None else None
    if look is not None and pool is not None:
        yield from _looked(labels, pool, now_s)


def _looked(labels: tuple[str, ...], pool: PoolLook, now_s: float) -> Iterator[Sample]:
    if pool.heard_s is not None:
        yield POOL_LOOK_AGE, labels, max(0.0, now_s - pool.heard_s)
    if pool.decision is not None:
        yield POOL_SCALING, (*labels, pool.decision.reason.value), 1
    if pool.needed is not None:
        yield POOL_NEEDED, labels, pool.needed
    if pool.backlog_s is not None:
        yield POOL_BACKLOG, labels, pool.backlog_s
    silent = pool.counts.ready if pool.reading is None else pool.reading.missing
    yield POOL_SILENT, labels, silent
    if pool.reading is not None:
        yield POOL_TAKEN, labels, pool.reading.taken_share
