"""Requests are counted by the objectives of the spec."""

import pytest

from splitwise_core.metric import Component
from splitwise_core.telemetry import Telemetry
from splitwise_router.goodput import Goodput, Objectives

ASKED = Objectives(ttft_s=1.0, tbt_s=0.1, part=0.9)


def counts(telemetry: Telemetry) -> dict[str, str]:
    """By objective, what a single request counted as."""
    return {
        sample.labels["objective"]: sample.labels["verdict"]
        for family in telemetry.registry.collect()
        for sample in family.samples
        if sample.name == "splitwise_router_slo_requests_total" and sample.value
    }


@pytest.mark.parametrize(
    ("ttft_s", "tbt_s", "expected"),
    [
        pytest.param(1.0, 0.1, "met met met", id="at the limit it is in time"),
        pytest.param(1.1, 0.1, "missed met missed", id="a late first token"),
        pytest.param(0.5, 0.2, "met missed missed", id="slow tokens"),
        pytest.param(0.5, 0.0, "met met met", id="one token has no gaps"),
    ],
)
def test_an_answer_keeps_to_each_objective_or_not(
    ttft_s: float, tbt_s: float, expected: str
) -> None:
    telemetry = Telemetry(Component.ROUTER)
    Goodput(telemetry, ASKED).answered(ttft_s, tbt_s)
    assert counts(telemetry) == dict(zip(("ttft", "tbt", "all"), expected.split()))


def test_a_failed_request_has_missed_every_objective() -> None:
    telemetry = Telemetry(Component.ROUTER)
    Goodput(telemetry, ASKED).failed()
    assert set(counts(telemetry).values()) == {"missed"}
    assert telemetry.registry.get_sample_value("splitwise_router_slo_target_ratio") == 0.9


def test_without_objectives_nothing_is_counted() -> None:
    telemetry = Telemetry(Component.ROUTER)
    goodput = Goodput(telemetry, None)
    goodput.answered(9, 9)
    goodput.failed()
    assert counts(telemetry) == {}
