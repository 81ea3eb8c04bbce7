"""What an operator counts and shows."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from splitwise_core.metric import SECONDS, Component, Metric

CLUSTER: Final = ("namespace", "cluster")
CLUSTER_POOL: Final = (*CLUSTER, "role", "pool")

CLUSTERS: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_operator_clusters",
    "SplitwiseClusters that this operator looks after.",
)
LEADERS: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_operator_leaders",
    "1 while this operator leads, 0 while it waits to: the sum is 1, or nobody reconciles.",
)
RECONCILE: Final = Metric(
    Component.OPERATOR,
    Histogram,
    "splitwise_operator_reconcile_seconds",
    "One look at one cluster with all its writes. `incomplete` and `failed` are tried again.",
    ("result",),
    SECONDS,
)
WRITES: Final = Metric(
    Component.OPERATOR,
    Counter,
    "splitwise_operator_writes_total",
    "Writes to the API server. It stands still while nothing changes.",
    ("verb",),
)
WATCH_FAILURES: Final = Metric(
    Component.OPERATOR,
    Counter,
    "splitwise_operator_watch_failures_total",
    "Watches of the API server that broke or could not be opened.",
)
LOAD_READINGS: Final = Metric(
    Component.OPERATOR,
    Counter,
    "splitwise_operator_load_readings_total",
    "Questions to workers on their load and to routers on their queues. Pools of which no worker "
    "answers are not scaled, and those of which some do not are not made smaller.",
    ("result",),
)
SCALE_DECISIONS: Final = Metric(
    Component.OPERATOR,
    Counter,
    "splitwise_operator_scale_decisions_total",
    "Pools that the autoscaler has made larger or smaller, by why.",
    (*CLUSTER_POOL, "scale_reason"),
)
SCALE_LOOK: Final = Metric(
    Component.OPERATOR,
    Histogram,
    "splitwise_operator_scale_look_seconds",
    "One look at the load of one cluster, every two seconds, with what is written for it.",
    (),
    SECONDS,
)
STAGE_READINGS: Final = Metric(
    Component.OPERATOR,
    Counter,
    "splitwise_operator_stage_readings_total",
    "Questions to routers on the stages of requests, for `status.advice`. While they fail it stays "
    "as it is.",
    ("result",),
)
LINK_READINGS: Final = Metric(
    Component.OPERATOR,
    Counter,
    "splitwise_operator_link_readings_total",
    "Questions to routers on the links between pools, for `status.transfer`. While they fail it "
    "stays as it is.",
    ("result",),
)
CLUSTER_CONDITION: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_cluster_condition_info",
    "1 for each condition of a cluster, with its status and reason: docs/conditions.md explains "
    "them.",
    (*CLUSTER, "condition", "condition_status", "condition_reason"),
)
CLUSTER_BEHIND: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_cluster_behind_generations",
    "Changes of a cluster's spec that the operator has not taken up yet.",
    CLUSTER,
)
POOL_WORKERS: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_pool_workers",
    "A pool's workers: as many are `desired`; there are `current` ones, of them `ready`, and ready "
    "of the newest revision (`updated`); others are `draining`. Of the current ones `unschedulable`"
    " are those that no node takes.",
    (*CLUSTER_POOL, "state"),
)
POOL_BOUND: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_pool_bound_workers",
    "The workers that a scaled pool has at `least` (`minReplicas`, without its schedule) and at "
    "`most` (`maxReplicas`).",
    (*CLUSTER_POOL, "bound"),
)
POOL_NEEDED: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_pool_needed_workers",
    "The workers that the load of a pool asks for, before bounds, steps and windows. Above the "
    "bound `most` the pool is too small for its load.",
    CLUSTER_POOL,
)
POOL_BACKLOG: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_pool_backlog_seconds",
    "Prompt work that waits for each worker of a pool, as the autoscaler reckons it. There is no "
    "value for token pools, and while no speed is measured.",
    CLUSTER_POOL,
)
POOL_TAKEN: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_pool_taken_ratio",
    "The part of a pool's KV memory, or places, that decoding takes or will take, as the "
    "autoscaler reckons it.",
    CLUSTER_POOL,
)
POOL_SILENT: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_pool_silent_workers",
    "Ready workers of a scaled pool, and routers, that did not tell their load when they were "
    "asked last.",
    CLUSTER_POOL,
)
POOL_LOOK_AGE: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_pool_load_age_seconds",
    "Time since the load of a scaled pool was heard last; every two seconds it is asked for. While "
    "it is old the pool keeps its size.",
    CLUSTER_POOL,
)
POOL_SCALING: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_pool_scaling_info",
    "1 with the reason why a scaled pool has the number of workers that it has.",
    (*CLUSTER_POOL, "scale_reason"),
)
