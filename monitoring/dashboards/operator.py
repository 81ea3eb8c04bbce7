"""The operator: whether it keeps clusters as their specs say, and what it decides."""

from typing import Final

from monitoring.dashboards.alike import CLUSTERS as SCOPE
from monitoring.dashboards.alike import EACH, NAME, NOT_HELD, not_ready, percentiles
from monitoring.dashboards.board import Board, Row, Variable, at_a_glance
from monitoring.dashboards.panels import COUNT, PER_S, SECONDS, Limits, Query, heat, lines, number
from monitoring.dashboards.promql import or_none, or_zero
from splitwise_core.metrics import operator

_EACH_POOL: Final = (*EACH, "pool")
_PILLARS: Final = "Ready|PoolsReady|RouterReady|TransferVerified|ScalingActive|CapacityAvailable"
"""The conditions that are true of a cluster that is well."""
_RARE: Final = Limits(look=0.001, bad=0.1)

_AT_A_GLANCE: Final = at_a_glance(
    number(
        "Leading",
        "Operators that lead. Without one nobody reconciles; two must never be.",
        COUNT,
        Query(SCOPE.now(operator.LEADERS), "operators"),
        limits=Limits(look=1, bad=0.5),
    ),
    not_ready("Clusters that are not as their specs say, or do not serve."),
    number(
        "Clusters",
        "SplitwiseClusters that the leading operator looks after.",
        COUNT,
        Query(SCOPE.now(operator.CLUSTERS, how="max"), "clusters"),
    ),
    number(
        "Reconciled",
        "Looks at clusters, with all their writes.",
        PER_S,
        Query(SCOPE.count(operator.RECONCILE), "looks"),
    ),
    number(
        "Not done",
        "Looks that failed, or could not write some object; they are made again.",
        PER_S,
        Query(
            or_zero(SCOPE.count(operator.RECONCILE, result="incomplete|failed")),
            "looks",
        ),
        limits=_RARE,
    ),
    number(
        "Reconcile, P99",
        "All but one of a hundred looks were shorter.",
        SECONDS,
        Query(SCOPE.quantile(0.99, operator.RECONCILE), "P99"),
        limits=Limits(look=5, bad=30),
    ),
    number(
        "Writes",
        "Writes to the API server. They stand still while nothing changes.",
        PER_S,
        Query(or_zero(SCOPE.rate(operator.WRITES)), "writes"),
    ),
    number(
        "Watches broken",
        "Watches of the API server that broke or could not be opened.",
        PER_S,
        Query(SCOPE.rate(operator.WATCH_FAILURES), "watches"),
        limits=_RARE,
    ),
)

_CLUSTERS: Final = Row(
    "Clusters",
    [
        lines(
            "Conditions that do not hold",
            "By their reason: docs/conditions.md says of each what to do about it.",
            COUNT,
            Query(
                or_none(
                    SCOPE.now(
                        operator.CLUSTER_CONDITION,
                        (*EACH, "condition", "condition_reason"),
                        condition=_PILLARS,
                        condition_status=NOT_HELD,
                    ),
                    "condition",
                ),
                "{{namespace}} {{cluster}} {{condition}} {{condition_reason}}",
            ),
            width=8,
        ),
        lines(
            "Workers that are missing",
            "Of each pool, those that are desired and not ready.",
            COUNT,
            Query(
                f"{SCOPE.now(operator.POOL_WORKERS, _EACH_POOL, state='desired')} - "
                f"{SCOPE.now(operator.POOL_WORKERS, _EACH_POOL, state='ready')} >= 0",
                f"{NAME} {{{{pool}}}}",
            ),
            width=8,
        ),
        lines(
            "Changes not taken up",
            "Changes of a cluster's spec that the operator has not taken up yet.",
            COUNT,
            Query(SCOPE.now(operator.CLUSTER_BEHIND, EACH), NAME),
            width=8,
        ),
    ],
)

_RECONCILING: Final = Row(
    "Reconciling",
    [
        lines(
            "Looks by result",
            "`incomplete` (some object was refused) and `failed` are tried again.",
            PER_S,
            Query(SCOPE.count(operator.RECONCILE, ("result",)), "{{result}}"),
        ),
        heat(
            "Duration of a look",
            "One look at one cluster with all its writes.",
            SECONDS,
            SCOPE.buckets(operator.RECONCILE),
        ),
        lines(
            "Writes by verb",
            "They stand still while nothing changes.",
            PER_S,
            Query(SCOPE.events(operator.WRITES, "verb"), "{{verb}}"),
        ),
        lines(
            "Watches broken",
            "Watches of the API server that broke or could not be opened.",
            PER_S,
            Query(SCOPE.rate(operator.WATCH_FAILURES), "broken"),
        ),
    ],
)

_SCALING: Final = Row(
    "Scaling",
    [
        lines(
            "Pools made larger or smaller",
            "By the reason.",
            PER_S,
            Query(SCOPE.events(operator.SCALE_DECISIONS, "scale_reason"), "{{scale_reason}}"),
            width=8,
        ),
        lines(
            "Duration of a look at load",
            "One look at the load of one cluster, every two seconds, with its writes.",
            SECONDS,
            *percentiles(SCOPE, operator.SCALE_LOOK, 50, 99),
            width=8,
        ),
        lines(
            "Questions to workers and routers",
            "On load, stages and links, by result. Pools of which no worker answers are not "
            "scaled.",
            PER_S,
            *(
                Query(SCOPE.events(metric, "result"), f"{name} {{{{result}}}}")
                for name, metric in (
                    ("load", operator.LOAD_READINGS),
                    ("stages", operator.STAGE_READINGS),
                    ("links", operator.LINK_READINGS),
                )
            ),
            width=8,
        ),
        lines(
            "Age of what is known of the load",
            "Time since the load of a scaled pool was heard last; every two seconds it is asked "
            "for. While it is old the pool keeps its size.",
            SECONDS,
            Query(SCOPE.now(operator.POOL_LOOK_AGE, _EACH_POOL, how="max"), f"{NAME} {{{{pool}}}}"),
            limits=Limits(look=10, bad=30),
        ),
        lines(
            "Silent workers",
            "Ready workers of a scaled pool, and routers, that did not tell their load when they "
            "were asked last.",
            COUNT,
            Query(SCOPE.now(operator.POOL_SILENT, _EACH_POOL), f"{NAME} {{{{pool}}}}"),
        ),
    ],
)


OPERATOR: Final = Board(
    "splitwise-operator",
    "Splitwise / Operator",
    "Whether the operator keeps clusters as their specs say, and what it decides.",
    [Variable("namespace"), Variable("cluster")],
    [_AT_A_GLANCE, _CLUSTERS, _RECONCILING, _SCALING],
)
