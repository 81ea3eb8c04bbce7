"""The metrics of a process, and docs/metrics.md, both from the declarations in metrics/.

A process makes one `Telemetry` and asks it for the metrics it moves; a metric that is not declared
cannot be made, and a label that is not declared cannot be set.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from splitwise_core.metric import POOL, Component, Metric, page
from splitwise_core.metrics import operator, process, router, sidecar, worker

METRICS: Final[tuple[Metric, ...]] = tuple(
    value
    for module in (router, worker, sidecar, operator, process)
    for value in vars(module).values()
    if isinstance(value, Metric)
)


class Telemetry:
    """The metrics of one process, in a registry of their own.

    `role` and `pool` are filled in where a caller does not name them.
    """

    def __init__(self, component: Component, role: str = "", pool: str = "") -> None:
        self.registry = CollectorRegistry()
        self._fixed = {"role": role, "pool": pool}
        self._made: dict[str, MetricWrapperBase] = {}
        for metric in METRICS:
            if metric.component in (component, Component.EVERY):
                self._made[metric.name] = self._make(metric)

    def _make(self, metric: Metric) -> MetricWrapperBase:
        if metric.kind is Histogram:
            return Histogram(
                metric.name,
                metric.help,
                metric.labels,
                registry=self.registry,
                buckets=metric.buckets,
            )
        return metric.kind(metric.name, metric.help, metric.labels, registry=self.registry)

    def _child(self, metric: Metric, labels: dict[str, str]) -> MetricWrapperBase:
        made = self._made[metric.name]
        if not metric.labels:
            return made
        fixed = {name: self._fixed[name] for name in POOL if name in metric.labels}
        return made.labels(**(fixed | labels))

    def counter(self, metric: Metric, **labels: str) -> Counter:
        """The counter `metric` with these labels."""
        child = self._child(metric, labels)
        assert isinstance(child, Counter)
        return child

    def gauge(self, metric: Metric, **labels: str) -> Gauge:
        """The gauge `metric` with these labels."""
        child = self._child(metric, labels)
        assert isinstance(child, Gauge)
        return child

    def histogram(self, metric: Metric, **labels: str) -> Histogram:
        """The histogram `metric` with these labels."""
        child = self._child(metric, labels)
        assert isinstance(child, Histogram)
        return child


def reference() -> str:
    """docs/metrics.md: every metric with its type, labels and meaning."""
    return page(METRICS)
