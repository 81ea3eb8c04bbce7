"""Metrics tell their unit, cannot explode, and are documented."""

import pytest

from splitwise_core.metric import LABEL_VALUES, Component, Metric
from splitwise_core.telemetry import METRICS, Telemetry

UNITS = (
    "_seconds",
    "_bytes",
    "_tokens",
    "_blocks",
    "_requests",
    "_sequences",
    "_sessions",
    "_per_second",
    "_ratio",
)
COUNTED = (
    "_links",
    "_leases",
    "_workers",
    "_clusters",
    "_leaders",
    "_generations",
    "_info",
    "_transports",
)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_tells_its_unit_and_its_labels_are_bounded(metric: Metric) -> None:
    assert metric.name.startswith("splitwise_")
    assert metric.name.endswith((*UNITS, *COUNTED, "_total"))
    assert set(metric.labels) <= set(LABEL_VALUES)
    assert metric.help.endswith(".")


def test_every_name_is_declared_once() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("component", Component)
def test_a_process_has_the_metrics_of_its_component_and_no_others(component: Component) -> None:
    telemetry = Telemetry(component, role="prompt", pool="p")
    theirs = (component, Component.EVERY)
    own = {m.name.removesuffix("_total") for m in METRICS if m.component in theirs}
    assert {family.name for family in telemetry.registry.collect()} == own
