"""What several dashboards ask in the same way."""

from collections.abc import Iterator, Sequence
from typing import Final

from grafana_foundation_sdk.builders.stat import Panel as StatPanel

from monitoring.dashboards.panels import COUNT, Limits, Query, number
from monitoring.dashboards.promql import Scope, or_zero, share
from splitwise_core.metric import Metric
from splitwise_core.metrics import operator, router, worker

CLUSTERS: Final = Scope(("namespace", "cluster"))
EACH: Final = CLUSTERS.variables
"""The labels of a cluster."""
NAME: Final = "{{namespace}}/{{cluster}}"

BUSY: Final = Limits(look=0.8, bad=0.95)
NOT_HELD: Final = "False|Unknown"
"""A condition's status when it does not hold."""


def kv_taken(scope: Scope, by: Sequence[str]) -> str:
    """The part of KV blocks that are neither free nor only cached."""
    free = scope.now(worker.KV_BLOCKS, by, state="free|cached")
    return f"1 - {share(free, scope.now(worker.KV_BLOCKS, by))}"


def percentiles(scope: Scope, metric: Metric, *percents: int) -> Iterator[Query]:
    """Lines of what a histogram has seen."""
    return (Query(scope.quantile(q / 100, metric), f"P{q}") for q in percents)


def not_ready(about: str) -> StatPanel:
    """How many clusters are not."""
    condition = {"condition": "Ready", "condition_status": NOT_HELD}
    found = CLUSTERS.now(operator.CLUSTER_CONDITION, **condition)
    limits = Limits(look=1, bad=2)
    return number("Not ready", about, COUNT, Query(or_zero(found), "clusters"), limits=limits)


def kept(scope: Scope, by: Sequence[str] = (), objective: str = "all") -> str:
    """The part of requests that kept to an objective; to all of them, it is goodput's."""
    chosen = {"objective": objective}
    return share(
        scope.rate(router.SLO_REQUESTS, by, **chosen, verdict="met"),
        scope.rate(router.SLO_REQUESTS, by, **chosen),
    )


def burn(scope: Scope) -> str:
    """How many times as fast as it may the error budget is used up."""
    return f"(1 - ({kept(scope)})) / (1 - {scope.now(router.SLO_PART, how='max')})"
