"""One cluster: what each pool does, and whether it is enough."""

from typing import Final

from monitoring.dashboards.alike import burn, kept, percentiles
from monitoring.dashboards.board import Board, Marks, Row, Variable, at_a_glance
from monitoring.dashboards.cluster_pools import POOLS, QUEUES, REPLICAS
from monitoring.dashboards.cluster_work import EFFICIENCY, TROUBLE, WORK
from monitoring.dashboards.panels import (
    COUNT,
    PART,
    REQUESTS_PER_S,
    SECONDS,
    TOKENS_PER_S,
    Limits,
    Query,
    lines,
    number,
)
from monitoring.dashboards.promql import ONE_CLUSTER as SCOPE
from splitwise_core.metrics import operator, router

_POOL: Final = ("pool",)

_AT_A_GLANCE: Final = at_a_glance(
    number(
        "Workers",
        "Workers of each pool that a router has a session with.",
        COUNT,
        Query(SCOPE.now(router.WORKER_SESSIONS, _POOL, how="max"), "{{pool}}"),
    ),
    number(
        "Requests",
        "Requests answered, whatever the answer.",
        REQUESTS_PER_S,
        Query(SCOPE.rate(router.HTTP_REQUESTS), "requests"),
    ),
    number(
        "In flight",
        "Requests that workers have.",
        COUNT,
        Query(SCOPE.now(router.INFLIGHT_REQUESTS), "requests"),
    ),
    number(
        "Expected wait",
        "How long a request that came now would wait before it is computed.",
        SECONDS,
        Query(SCOPE.now(router.EXPECTED_WAIT, how="max"), "wait"),
        limits=Limits(look=1, bad=10),
    ),
    number(
        "TTFT P90",
        "Nine of ten requests had their first token sooner.",
        SECONDS,
        Query(SCOPE.quantile(0.9, router.TTFT), "P90"),
    ),
    number(
        "TBT P90",
        "Nine of ten tokens came sooner after the one before.",
        SECONDS,
        Query(SCOPE.quantile(0.9, router.TBT), "P90"),
    ),
    number(
        "Kept to the objectives",
        "The part of requests that kept to the objectives of the spec.",
        PART,
        Query(kept(SCOPE), "part"),
        limits=Limits(look=0.99, bad=0.95),
        without="no objectives",
    ),
    number(
        "Output",
        "Tokens streamed to clients.",
        TOKENS_PER_S,
        Query(SCOPE.rate(router.OUTPUT_TOKENS), "tokens"),
    ),
)

_OBJECTIVES: Final = Row(
    "Objectives",
    [
        lines(
            "Kept to the objectives",
            "The part of requests that kept to the objectives of the spec (`slo`), and the part "
            "that is to. There is nothing where the spec has none.",
            PART,
            *(
                Query(kept(SCOPE, objective=objective), name)
                for objective, name in (
                    ("ttft", "time to first token"),
                    ("tbt", "time between tokens"),
                    ("all", "both"),
                )
            ),
            Query(SCOPE.now(router.SLO_PART, how="max"), "asked for"),
            most=1,
        ),
        lines(
            "Error budget used up",
            "How many times as fast as it may: at 1 the budget is just used up, above it the "
            "objectives are missed if it lasts.",
            COUNT,
            Query(burn(SCOPE), "times"),
            limits=Limits(look=1, bad=6),
        ),
    ],
)

_LATENCY: Final = Row(
    "Latency",
    [
        lines(
            "Time to first token",
            "Arrival of a request to its first token, as sent to the client.",
            SECONDS,
            *percentiles(SCOPE, router.TTFT, 50, 90, 99),
            width=8,
        ),
        lines(
            "Time between tokens",
            "Between two tokens of one request, as sent to the client.",
            SECONDS,
            *percentiles(SCOPE, router.TBT, 50, 90, 99),
            width=8,
        ),
        lines(
            "Whole requests",
            "Arrival of a request to its last token.",
            SECONDS,
            *percentiles(SCOPE, router.E2E, 50, 90, 99),
            width=8,
        ),
    ],
)

CLUSTER: Final = Board(
    "splitwise-cluster",
    "Splitwise / Cluster",
    "One cluster: utilisation, queues, replicas and latency by pool.",
    [Variable("namespace", several=False), Variable("cluster", several=False), Variable("pool")],
    [_AT_A_GLANCE, _OBJECTIVES, POOLS, QUEUES, REPLICAS, _LATENCY, WORK, EFFICIENCY, TROUBLE],
    [
        Marks(
            "Scaling",
            Query(
                SCOPE.happened(operator.SCALE_DECISIONS, ("pool", "scale_reason")),
                "{{pool}}: {{scale_reason}}",
            ),
            "orange",
        ),
    ],
)
