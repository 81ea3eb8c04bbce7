"""The metrics of a process, and docs/metrics.md, both from the declarations in metrics/.

A process makes one `Telemetry` and asks it for the metrics it moves; a metric that is not declared
cannot be made, and a label that is not declared cannot be set.
"""

from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client import Metric as Family
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from splitwise_core import histogram
from splitwise_core.metric import POOL, Component, Metric, page
from splitwise_core.metrics import operator, process, router, sidecar, worker

disable_created_metrics()  # type: ignore[no-untyped-call]  # nobody has declared those series

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
        self._prepare = _BeforeScrape()
        self.registry.register(self._prepare)  # the first one registered is asked first
        self._fixed = {"role": role, "pool": pool}
        self._made: dict[str, MetricWrapperBase] = {}
        self._children: dict[tuple[object, ...], MetricWrapperBase] = {}
        self._shown: dict[str, set[tuple[str, ...]]] = {}
        for metric in METRICS:
            if metric.component in (component, Component.EVERY):
                self._made[metric.name] = self._make(metric)

    def before_scrape(self, show: Callable[[], None]) -> None:
        """`show()` brings metrics up to date, whenever somebody scrapes: nobody pays in between.

        It is called in the thread of the scrape, and never twice at a time.
        """
        self._prepare.calls.append(show)

    def show_total(self, metric: Metric, total: Callable[[], float], **labels: str) -> None:
        """The counter with these labels is what `total()` says whenever somebody scrapes.

        For what is counted anyway, or moves much more often than it is looked at. It never falls.
        """
        counter, shown = self.counter(metric, **labels), 0.0

        def show() -> None:
            nonlocal shown
            more = total() - shown
            if more > 0:
                counter.inc(more)
                shown += more

        self.before_scrape(show)

    def show_only(self, metric: Metric, values: Mapping[tuple[str, ...], float]) -> None:
        """Gives the gauge `metric` these series, by the values of its labels, and no others."""
        made, shown = self._made[metric.name], self._shown.setdefault(metric.name, set())
        assert isinstance(made, Gauge)
        for labels, value in values.items():
            made.labels(*labels).set(value)
        for labels in shown - values.keys():
            made.remove(*labels)
            self._children.clear()  # one that was removed would be moved unseen
        self._shown[metric.name] = set(values)

    def _make(self, metric: Metric) -> MetricWrapperBase:
        if metric.kind is Histogram:
            return histogram.Histogram(
                metric.name,
                metric.help,
                metric.labels,
                registry=self.registry,
                buckets=metric.buckets,
            )
        return metric.kind(metric.name, metric.help, metric.labels, registry=self.registry)

    def _child(self, metric: Metric, labels: dict[str, str]) -> MetricWrapperBase:
        key = (metric.name, *labels.items())
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._look_up(metric, labels)
        return child

    def _look_up(self, metric: Metric, labels: dict[str, str]) -> MetricWrapperBase:
        made = self._made[metric.name]
        if not metric.labels:
            return made
        fixed = {name: self._fixed[name] for name in POOL if name in metric.labels}
        return made.labels(**(fixed | labels))

    def family(self, metric: Metric) -> Counter:
        """The counter `metric` with all its labels, up to date, to be read."""
        self._prepare.collect()
        made = self._made[metric.name]
        assert isinstance(made, Counter)
        return made

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


class _BeforeScrape(Collector):
    """Collects nothing; being asked to is the news that a scrape begins."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []
        self._lock = Lock()

    def describe(self) -> Iterable[Family]:
        return ()

    def collect(self) -> Iterable[Family]:
        with self._lock:
            for call in self.calls:
                call()
        return ()


def reference() -> str:
    """docs/metrics.md: every metric with its type, labels and meaning."""
    return page(METRICS)
