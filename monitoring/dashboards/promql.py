"""PromQL from the declarations of metrics: a name or a label that is not declared is refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from splitwise_core.metric import Component, Metric

TARGET_LABELS: Final = ("namespace", "cluster", "pod", "container")
"""What a scrape adds to every series: see PodMonitor and docs/monitoring.md."""
NOTHING: Final = "none"
"""The label of a line at 0 that stands for what there is none of."""
WINDOW: Final = "$__rate_interval"
MARKED_S: Final = 60
"""How long a mark lasts: longer than an operator's scrapes are apart."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The series that a dashboard is about: those that its variables choose."""

    variables: tuple[str, ...]

    def of(self, metric: Metric, part: str = "", **equals: str) -> str:
        """A selector of the metric's series; `part` is `_bucket`, `_sum` or `_count`."""
        assert equals.keys() <= set(metric.labels), (metric.name, equals)
        chosen = [f'{name}=~"${name}"' for name in self.variables if _has(metric, name)]
        chosen += [f'{name}{_matcher(value)}"' for name, value in equals.items()]
        return f"{metric.name}{part}{{{', '.join(chosen)}}}"

    def now(self, metric: Metric, by: Sequence[str] = (), how: str = "sum", **equals: str) -> str:
        """A gauge as it is, taken together."""
        assert metric.kind is Gauge, metric.name
        return _taken(how, by, metric, self.of(metric, **equals))

    def rate(self, metric: Metric, by: Sequence[str] = (), how: str = "sum", **equals: str) -> str:
        """How fast a counter grows, per second."""
        assert metric.kind is Counter, metric.name
        return _taken(how, by, metric, f"rate({self.of(metric, **equals)}[{WINDOW}])")

    def events(self, metric: Metric, by: str, **equals: str) -> str:
        """The rate of what may never happen, by one label; a line at 0 while there was none."""
        return or_none(self.rate(metric, (by,), **equals), by)

    def happened(self, metric: Metric, by: Sequence[str]) -> str:
        """Above 0 for MARKED_S after a counter has grown; its first time too, as no rate does."""
        now = _taken("sum", by, metric, self.of(metric))
        then = _taken("sum", by, metric, f"{self.of(metric)} offset {MARKED_S}s")
        return f"{now} - ({then} or 0 * {now}) > 0"

    def mean(self, metric: Metric, by: Sequence[str] = (), **equals: str) -> str:
        """The mean of what a histogram has seen; no value where that is nothing."""
        assert metric.kind is Histogram, metric.name
        parts = (
            f"rate({self.of(metric, part, **equals)}[{WINDOW}])" for part in ("_sum", "_count")
        )
        return share(*(_taken("sum", by, metric, part) for part in parts))

    def quantile(self, of: float, metric: Metric, by: Sequence[str] = (), **equals: str) -> str:
        """A quantile of what a histogram has seen, to within a bucket; no value where nothing."""
        return f"histogram_quantile({of:g}, {self.buckets(metric, by, **equals)}) >= 0"

    def buckets(self, metric: Metric, by: Sequence[str] = (), **equals: str) -> str:
        """The rate of what falls into each bucket and those below."""
        assert metric.kind is Histogram, metric.name
        inner = f"rate({self.of(metric, '_bucket', **equals)}[{WINDOW}])"
        return f"sum by ({', '.join(('le', *by))}) ({inner})"

    def count(self, metric: Metric, by: Sequence[str] = (), **equals: str) -> str:
        """How often a histogram sees something, per second."""
        assert metric.kind is Histogram, metric.name
        return _taken("sum", by, metric, f"rate({self.of(metric, '_count', **equals)}[{WINDOW}])")


ONE_CLUSTER: Final = Scope(("namespace", "cluster", "pool"))


def share(part: str, whole: str) -> str:
    """A quotient; no value, in place of NaN, where both are 0."""
    return f"{part} / {whole} >= 0"


def or_zero(expr: str) -> str:
    """One number, also where there is no series yet."""
    return f"({expr} or on () vector(0))"


def or_none(expr: str, by: str) -> str:
    """Lines by a label, and one at 0 while there are none."""
    return f'{expr} or on () label_replace(vector(0), "{by}", "{NOTHING}", "", "")'


def _has(metric: Metric, name: str) -> bool:
    """Whether a variable chooses among the metric's series.

    A scrape gives routers' and operators' series labels too, but a pool chosen there is none.
    """
    if name == "pool":
        return name in metric.labels
    return name in metric.labels or metric.component is not Component.OPERATOR


def _matcher(value: str) -> str:
    return f'=~"{value}' if "|" in value or "*" in value else f'="{value}'


def _taken(how: str, by: Sequence[str], metric: Metric, inner: str) -> str:
    known = {*metric.labels, *TARGET_LABELS}
    assert known >= set(by), (metric.name, by)
    return f"{how} by ({', '.join(by)}) ({inner})" if by else f"{how}({inner})"
