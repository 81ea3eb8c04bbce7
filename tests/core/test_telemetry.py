"""Metrics tell their unit, cannot explode, and are documented."""

import pytest

from splitwise_core.metric import LABEL_VALUES, Component, Metric
from splitwise_core.metrics.operator import CLUSTER_BEHIND
from splitwise_core.metrics.router import OUTPUT_TOKENS
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


def test_a_total_that_is_shown_is_up_to_date_at_every_scrape_and_never_falls() -> None:
    telemetry, total = Telemetry(Component.ROUTER), [0.0]
    telemetry.show_total(OUTPUT_TOKENS, lambda: total[0])
    seen = []
    for total[0] in (0, 3, 3, 10, 4, 11):
        seen.append(telemetry.registry.get_sample_value(OUTPUT_TOKENS.name))
    assert seen == [0, 3, 3, 10, 10, 11]


def test_a_total_that_is_shown_is_up_to_date_for_who_reads_the_counter_here() -> None:
    telemetry = Telemetry(Component.ROUTER)
    telemetry.show_total(OUTPUT_TOKENS, lambda: 5)
    (family,) = telemetry.family(OUTPUT_TOKENS).collect()
    assert [sample.value for sample in family.samples] == [5]


def test_a_series_that_was_taken_away_is_seen_again_once_it_is_moved() -> None:
    telemetry = Telemetry(Component.OPERATOR)
    labels = {"namespace": "n", "cluster": "c"}
    telemetry.gauge(CLUSTER_BEHIND, **labels).set(1)
    telemetry.show_only(CLUSTER_BEHIND, {("n", "c"): 1})
    telemetry.show_only(CLUSTER_BEHIND, {})
    telemetry.gauge(CLUSTER_BEHIND, **labels).set(2)
    assert telemetry.registry.get_sample_value(CLUSTER_BEHIND.name, labels) == 2
