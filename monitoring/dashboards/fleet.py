"""All clusters side by side: which one needs somebody, and for what."""

from typing import Final

from monitoring.dashboards.alike import BUSY, EACH, NAME, kept, kv_taken, not_ready
from monitoring.dashboards.alike import CLUSTERS as SCOPE
from monitoring.dashboards.board import Board, Row, Variable, address, at_a_glance
from monitoring.dashboards.panels import (
    COUNT,
    DOLLARS,
    PART,
    REQUESTS_PER_S,
    SECONDS,
    TOKENS_PER_S,
    WATTS,
    Limits,
    Query,
    lines,
    number,
    table,
)
from monitoring.dashboards.promql import or_zero, share
from splitwise_core.metrics import router, worker

_AT_A_GLANCE: Final = at_a_glance(
    number(
        "Clusters",
        "Clusters with a router that answers.",
        COUNT,
        Query(f"count({SCOPE.now(router.INFLIGHT_REQUESTS, EACH)})", "clusters"),
    ),
    not_ready("Clusters that are not as their specs say, or do not serve, as an operator has it."),
    number(
        "Workers",
        "Workers that answer, of all roles.",
        COUNT,
        Query(f"count({SCOPE.of(worker.RUNNING)})", "workers"),
    ),
    number(
        "Requests",
        "Requests answered, whatever the answer.",
        REQUESTS_PER_S,
        Query(SCOPE.rate(router.HTTP_REQUESTS), "requests"),
    ),
    number(
        "Output",
        "Tokens streamed to clients.",
        TOKENS_PER_S,
        Query(SCOPE.rate(router.OUTPUT_TOKENS), "tokens"),
    ),
    number(
        "Waiting for capacity",
        "Requests that wait at routers, since no worker has room for them.",
        COUNT,
        Query(SCOPE.now(router.QUEUED_REQUESTS), "requests"),
        limits=Limits(look=1, bad=100),
    ),
    number(
        "Not answered well",
        "The part of answers with HTTP status 429 or 5xx: turned away, or failed.",
        PART,
        Query(
            share(
                or_zero(SCOPE.rate(router.HTTP_REQUESTS, status="429|5..")),
                SCOPE.rate(router.HTTP_REQUESTS),
            ),
            "part",
        ),
        limits=Limits(look=0.001, bad=0.01),
    ),
    number(
        "Kept to the objectives",
        "The part of requests that kept to the objectives of their cluster's spec.",
        PART,
        Query(kept(SCOPE), "part"),
        limits=Limits(look=0.99, bad=0.95),
        without="no objectives",
    ),
)

_CLUSTERS: Final = Row(
    "Clusters",
    [
        table(
            "Clusters",
            "Each cluster as it is now; its name leads to its own dashboard.",
            {"namespace": "namespace", "cluster": "cluster"},
            [
                ("workers", COUNT, f"count by (namespace, cluster) ({SCOPE.of(worker.RUNNING)})"),
                ("requests", REQUESTS_PER_S, SCOPE.rate(router.HTTP_REQUESTS, EACH)),
                ("in flight", COUNT, SCOPE.now(router.INFLIGHT_REQUESTS, EACH)),
                ("waiting", COUNT, SCOPE.now(router.QUEUED_REQUESTS, EACH)),
                ("expected wait", SECONDS, SCOPE.now(router.EXPECTED_WAIT, EACH, how="max")),
                ("TTFT P90", SECONDS, SCOPE.quantile(0.9, router.TTFT, EACH)),
                ("TBT P90", SECONDS, SCOPE.quantile(0.9, router.TBT, EACH)),
                ("busy", PART, SCOPE.rate(worker.BUSY, EACH, how="avg")),
                ("KV taken", PART, kv_taken(SCOPE, EACH)),
                ("kept", PART, kept(SCOPE, EACH)),
                ("$ per hour", DOLLARS, f"3600 * {SCOPE.rate(worker.COST, EACH)}"),
            ],
            address("splitwise-cluster", "namespace", "cluster"),
        ),
    ],
)

_LOAD: Final = Row(
    "Load",
    [
        lines(
            "Requests",
            "Requests answered by each cluster, whatever the answer.",
            REQUESTS_PER_S,
            Query(SCOPE.rate(router.HTTP_REQUESTS, EACH), NAME),
            stacked=True,
        ),
        lines(
            "Output tokens",
            "Tokens streamed to clients by each cluster.",
            TOKENS_PER_S,
            Query(SCOPE.rate(router.OUTPUT_TOKENS, EACH), NAME),
            stacked=True,
        ),
        lines(
            "Time to first token, P90",
            "Nine of ten requests had their first token sooner.",
            SECONDS,
            Query(SCOPE.quantile(0.9, router.TTFT, EACH), NAME),
        ),
        lines(
            "Time between tokens, P90",
            "Nine of ten tokens came sooner after the one before.",
            SECONDS,
            Query(SCOPE.quantile(0.9, router.TBT, EACH), NAME),
        ),
        lines(
            "Requests in flight and waiting",
            "Requests that workers have, and those that wait at routers for capacity.",
            COUNT,
            Query(SCOPE.now(router.INFLIGHT_REQUESTS, EACH), f"{NAME} in flight"),
            Query(SCOPE.now(router.QUEUED_REQUESTS, EACH), f"{NAME} waiting"),
        ),
        lines(
            "Turned away or failed",
            "Answers with HTTP status 429 or 5xx, by status. A rise of 429 asks for replicas.",
            REQUESTS_PER_S,
            Query(SCOPE.events(router.HTTP_REQUESTS, "status", status="429|5.."), "{{status}}"),
        ),
    ],
)

_USE: Final = Row(
    "Use",
    [
        lines(
            "Kept to the objectives",
            "The part of requests that kept to the objectives of their cluster's spec. There is "
            "nothing of clusters that have none.",
            PART,
            Query(kept(SCOPE, EACH), NAME),
            most=1,
        ),
        lines(
            "Cost per hour",
            "By the prices of pools' `machine`. There is nothing of pools without one.",
            DOLLARS,
            Query(f"3600 * {SCOPE.rate(worker.COST, EACH)}", NAME),
            width=6,
            stacked=True,
        ),
        lines(
            "Power",
            "Measured by GPUs, or estimated from the watts of pools' `machine`.",
            WATTS,
            Query(SCOPE.rate(worker.ENERGY, EACH), NAME),
            width=6,
            stacked=True,
        ),
        lines(
            "Utilisation by role",
            "The part of their time that engines spend in steps, as a mean over the workers of a "
            "role. Prompt pools near 100 % make requests wait.",
            PART,
            Query(SCOPE.rate(worker.BUSY, (*EACH, "role"), how="avg"), f"{NAME} {{{{role}}}}"),
            limits=BUSY,
            most=1,
        ),
        lines(
            "KV memory taken",
            "The part of KV blocks that are neither free nor only cached.",
            PART,
            Query(kv_taken(SCOPE, EACH), NAME),
            limits=BUSY,
            most=1,
        ),
    ],
)

FLEET: Final = Board(
    "splitwise-fleet",
    "Splitwise / Fleet",
    "All clusters side by side: load, latency and use.",
    [Variable("namespace"), Variable("cluster")],
    [_AT_A_GLANCE, _CLUSTERS, _LOAD, _USE],
)
