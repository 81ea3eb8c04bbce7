"""What an operator counts and shows."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from splitwise_core.metric import SECONDS, Component, Metric

CLUSTERS: Final = Metric(
    Component.OPERATOR,
    Gauge,
    "splitwise_operator_clusters",
    "SplitwiseClusters that this operator looks after.",
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
    ("scale_reason",),
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
