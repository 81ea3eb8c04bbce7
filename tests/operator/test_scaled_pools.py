"""What the law is told of a cluster's pools: times of day, shares of what waits."""

from datetime import UTC, datetime

import pytest

from splitwise_core.policy.scaling import Held, Slo
from splitwise_core.spec_autoscaling import Period
from splitwise_operator.scaled_pools import is_within, law_of, shared_out
from tests.operator.rendered import cluster

WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri"]


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("begins", "ends", "now", "expected"),
    [
        pytest.param("08:00", "18:00", "2026-01-05T07:59", False, id="before"),
        pytest.param("08:00", "18:00", "2026-01-05T08:00", True, id="begins on the minute"),
        pytest.param("08:00", "18:00", "2026-01-05T18:00", False, id="ends on the minute"),
        pytest.param("08:00", "18:00", "2026-01-04T12:00", False, id="on another day"),
        pytest.param("22:00", "06:00", "2026-01-06T05:59", True, id="goes on after midnight"),
        pytest.param("22:00", "06:00", "2026-01-10T05:59", True, id="also after its last day"),
        pytest.param("22:00", "06:00", "2026-01-05T05:59", False, id="not before its first"),
    ],
)
def test_a_period(begins: str, ends: str, now: str, expected: bool) -> None:
    period = Period(days=WEEKDAYS, begins=begins, ends=ends, minReplicas=2)
    assert is_within(period, at(now)) is expected


def test_a_period_is_of_its_time_zone() -> None:
    period = Period(begins="08:00", ends="09:00", timeZone="Asia/Tokyo", minReplicas=2)
    assert is_within(period, at("2026-01-05T23:30"))
    assert not is_within(period, at("2026-01-05T08:30"))


def test_a_law_has_the_least_of_the_hour_and_the_targets_of_the_spec() -> None:
    day = {"begins": "08:00", "ends": "18:00", "minReplicas": 4}
    asked = {
        "by": "SLO",
        "maxReplicas": 9,
        "slo": {"ttftSeconds": 1.0, "tbtSeconds": 0.05},
        "schedule": [day],
    }
    pools = [
        {"name": "prompt", "role": "prompt", "autoscaling": asked},
        {"name": "token", "role": "token", "autoscaling": {"by": "External", "maxReplicas": 3}},
    ]
    made = cluster(pools=pools)
    law = law_of(made, made.spec.pools[0], at("2026-01-05T12:00"))
    assert law is not None
    assert (law.least, law.most, law.slo) == (4, 9, Slo(1.0, 0.05, 0.9))
    night = law_of(made, made.spec.pools[0], at("2026-01-05T20:00"))
    assert night is not None
    assert night.least == 1
    assert law_of(made, made.spec.pools[1], at("2026-01-05T12:00")) is None


def test_no_more_counts_as_a_backlog_than_routers_let_wait_at_a_worker() -> None:
    asked = {"by": "Load", "maxReplicas": 9, "load": {"backlogSeconds": 30}}
    pools = [
        {"name": "prompt", "role": "prompt", "autoscaling": asked},
        {"name": "token", "role": "token", "replicas": 1},
    ]
    made = cluster(pools=pools, router={"maxQueueSeconds": 4})
    law = law_of(made, made.spec.pools[0], at("2026-01-05T12:00"))
    assert law is not None
    assert (law.backlog_s, law.committed_s) == (30, 2)


def test_what_waits_is_shared_out_over_the_pools_of_a_phase() -> None:
    pools = [
        {"name": "prompt", "role": "prompt"},
        {"name": "a", "role": "token"},
        {"name": "b", "role": "token"},
    ]
    held = Held(10, 1000, 3001, placed_tokens=70, refused_tokens=7)
    parts = shared_out(cluster(pools=pools), held, 3, 12)
    assert parts == {
        "prompt": Held(10, 1000, 3001, 0.25, 70, 7),
        "a": Held(5, 500, 1501, 0.25, 70, 7),
        "b": Held(5, 500, 1501, 0.25, 70, 7),
    }
