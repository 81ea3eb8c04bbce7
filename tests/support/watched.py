"""Pages of metrics held against their declarations, and a Prometheus with hastened rules."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from prometheus_client import Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from monitoring.prometheus import Prometheus, prometheus, scraping
from monitoring.rules import SOURCE, hastened
from splitwise_core.metric import Component, Metric
from splitwise_core.telemetry import METRICS

FACTOR: Final = 30
"""Rules' windows and waits are divided by it: what takes five minutes takes ten seconds. What they
compare with stays."""
SCRAPED_EVERY_S: Final = 0.5


@dataclass(slots=True)
class Pages:
    """What was seen of one component's metrics, over all scrapes of all its processes."""

    component: Component
    series: set[tuple[str, ...]] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)
    told: set[str] = field(default_factory=set)
    largest: int = 0

    @property
    def declared(self) -> dict[str, Metric]:
        """The component's metrics by the name of their family."""
        either = (self.component, Component.EVERY)
        own = [metric for metric in METRICS if metric.component in either]
        return {metric.name.removesuffix("_total"): metric for metric in own}

    def read(self, url: str) -> None:
        """Scrapes a page. Fails on what is not declared, and on another type or other labels."""
        answer = httpx.get(url, timeout=10)
        assert answer.headers["content-type"].startswith("text/plain; version="), url
        self.largest = max(self.largest, len(answer.content))
        for family in text_string_to_metric_families(answer.text):
            metric = self.declared.get(family.name)
            assert metric is not None, f"{url} has {family.name}, which nobody has declared"
            assert family.type == metric.kind.__name__.lower(), family.name
            for sample in family.samples:
                self._note(url, metric, sample.name, sample.labels, sample.value)

    def _note(
        self, url: str, metric: Metric, name: str, labels: Mapping[str, str], value: float
    ) -> None:
        assert set(labels) - {"le"} == set(metric.labels), name
        assert metric.kind not in (Counter, Histogram) or value >= 0, name
        self.series.add((url, name, *sorted(f"{key}={one}" for key, one in labels.items())))
        self.told.add(metric.name)
        if value:
            self.moved.add(metric.name)

    def still(self) -> set[str]:
        """Metrics that no process has ever told anything but 0 of."""
        return {metric.name for metric in self.declared.values()} - self.moved


@dataclass(frozen=True, slots=True)
class Watch:
    """A Prometheus with our rules, and the file that tells it what to scrape."""

    prometheus: Prometheus
    targets: Path

    def all_up(self, count: int) -> bool:
        """Whether so many targets, and all, were scraped last."""
        return bool(self.prometheus.ask(f"count(up == 1) == {count} == count(up)"))

    def alerts(self, state: str = "firing") -> set[str]:
        """Alerts that are so now."""
        found = self.prometheus.ask(f'ALERTS{{alertname=~"Splitwise.*",alertstate="{state}"}}')
        return {sample.labels["alertname"] for sample in found}

    def ever(self) -> set[str]:
        """Alerts that have fired at some time."""
        found = self.prometheus.ask('max_over_time(ALERTS{alertstate="firing"}[1h])')
        return {sample.labels["alertname"] for sample in found}


def write_targets(file: Path, urls: Collection[str], **labels: str) -> None:
    """What is scraped, as Prometheus' file_sd_configs have it. It is read anew when it changes."""
    known: list[dict[str, Any]] = yaml.safe_load(file.read_text()) if file.exists() else []
    hosts = [url.removeprefix("http://").removesuffix("/metrics") for url in urls]
    known.append({"targets": hosts, "labels": labels})
    fresh = file.with_suffix(".new")
    fresh.write_text(yaml.safe_dump(known))
    fresh.replace(file)


@contextmanager
def watching(
    directory: Path, listen: str, urls: Sequence[str], factor: int = FACTOR, **labels: str
) -> Iterator[Watch]:
    """Scrapes `urls` with these labels, by rules that are hastened by `factor`."""
    rules, targets = directory / "rules.yaml", directory / "targets.yaml"
    rules.write_text(hastened(SOURCE.read_text("utf-8"), factor), "utf-8")
    write_targets(targets, urls, **labels)
    configuration = scraping(targets, SCRAPED_EVERY_S, [rules])
    (scrape,) = configuration["scrape_configs"]
    scrape["honor_labels"] = True  # as the chart's monitors have it for the operator
    with prometheus(configuration, directory, listen) as made:
        yield Watch(made, targets)
