"""The least machines of a pool by time of day, as an operator will read them."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists

from splitwise_core.spec_autoscaling import MOST_PERIODS, Period
from splitwise_operator.scaled_pools import is_within
from splitwise_planner.schedule import DAY_MIN, HOUR_MIN, Schedule, clock, schedule_of

DAYS = lists(integers(1, 6), min_size=24, max_size=24) | lists(
    integers(1, 60), min_size=24, max_size=24
)
STARTS = floats(0, 90_000)


def office(night: int, day: int) -> list[int]:
    """More from 8 to 18 o'clock."""
    return [night] * 8 + [day] * 10 + [night] * 6


def told(schedule: Schedule) -> list[tuple[str, str, int]]:
    return [(clock(p.begins_min), clock(p.ends_min), p.machines) for p in schedule.periods]


def test_a_period_begins_so_much_sooner_that_its_machines_serve_in_time() -> None:
    schedule = schedule_of(office(2, 5), start_s=90.0)
    assert (schedule.least, schedule.most) == (2, 5)
    assert told(schedule) == [("07:58", "18:00", 5)]
    assert schedule.machine_hours == pytest.approx(14 * 2 + 10 * 5 + 2 / 60 * 3)


def test_who_needs_fewer_machines_needs_them_on_the_hour() -> None:
    hourly = [1] * 8 + [5] * 4 + [3] * 4 + [1] * 8
    assert told(schedule_of(hourly, 60.0)) == [("07:59", "12:00", 5), ("12:00", "16:00", 3)]


def test_a_period_goes_on_past_midnight() -> None:
    hourly = [4] * 2 + [1] * 20 + [4] * 2
    assert told(schedule_of(hourly, 0.0)) == [("22:00", "02:00", 4)]


def test_a_pool_that_needs_the_same_all_day_has_no_periods() -> None:
    schedule = schedule_of([3] * 24, 60.0)
    assert (schedule.least, schedule.most, schedule.periods) == (3, 3, ())
    assert schedule.machine_hours == 72


def test_machines_that_start_for_longer_than_they_rest_stay() -> None:
    hourly = [5] * 12 + [1] + [5] * 11
    assert all(schedule_of(hourly, 7200.0).at(minute) == 5 for minute in range(DAY_MIN))


@settings(max_examples=60, deadline=None)
@given(hourly=DAYS, start_s=STARTS)
def test_no_hour_lacks_what_it_needs_and_a_schedule_fits_its_field(
    hourly: list[int], start_s: float
) -> None:
    schedule = schedule_of(hourly, start_s)
    assert len(schedule.periods) <= MOST_PERIODS
    assert all(schedule.at(minute) >= hourly[minute // HOUR_MIN] for minute in range(DAY_MIN))
    assert all(schedule.at(minute) <= schedule.most for minute in range(DAY_MIN))


@settings(max_examples=60, deadline=None)
@given(hourly=lists(integers(1, 60), min_size=12, max_size=12))
def test_without_a_need_to_round_there_is_no_machine_too_many(hourly: list[int]) -> None:
    """Twelve pairs of hours: at most twelve periods."""
    pairs = [machines for machines in hourly for _ in range(2)]
    assert schedule_of(pairs, 0.0).machine_hours == sum(pairs)


@settings(max_examples=30, deadline=None)
@given(hourly=DAYS, start_s=STARTS)
def test_the_operator_reads_it_as_it_is_meant(hourly: list[int], start_s: float) -> None:
    schedule = schedule_of(hourly, start_s)
    periods = [
        Period(begins=clock(p.begins_min), ends=clock(p.ends_min), minReplicas=p.machines)
        for p in schedule.periods
    ]
    midnight = datetime(2026, 1, 5, tzinfo=UTC)
    for minute in range(0, DAY_MIN, 7):
        now = midnight + timedelta(minutes=minute)
        read = [period.min_replicas for period in periods if is_within(period, now)]
        assert max([schedule.least, *read]) == schedule.at(minute)
