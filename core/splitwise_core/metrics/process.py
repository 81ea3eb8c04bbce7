"""What every process counts of its own watching."""

from typing import Final

from prometheus_client import Counter

from splitwise_core.metric import Component, Metric

SPANS: Final = Metric(
    Component.EVERY,
    Counter,
    "splitwise_trace_spans_total",
    "Spans of traced requests, by their end: `sent` to the collector; `failed`, because it did not "
    "take them; `dropped`, because too many waited for it. Only where traces are asked for.",
    ("end",),
)
LOG_DROPS: Final = Metric(
    Component.EVERY,
    Counter,
    "splitwise_log_dropped_lines_total",
    "Log lines that were given up because what reads them is too slow.",
)
