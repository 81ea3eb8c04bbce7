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
LINK_READINGS: Final = Metric(
    Component.OPERATOR,
    Counter,
    "splitwise_operator_link_readings_total",
    "Questions to routers on the links between pools, for `status.transfer`. While they fail it "
    "stays as it is.",
    ("result",),
)
