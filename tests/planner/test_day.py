"""A day by the hour: profiles, traces that are counted, and what is said of mistakes in them."""

import json
from pathlib import Path

import pytest

from splitwise_core.errors import UserError
from splitwise_planner.day import load_day

RATES = [float(hour) for hour in range(24)]
LINES = [f"{hour},{rate:g}" for hour, rate in enumerate(RATES)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "day.csv"


def profile(*lines: str, header: str = "hour,rate") -> str:
    return "\n".join([header, *lines, ""])


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(profile(*LINES), id="in order"),
        pytest.param(profile(*reversed(LINES)), id="in any order"),
        pytest.param(
            profile(
                *(f"{rate:g}, {hour:02}" for hour, rate in enumerate(RATES)), header="rate,hour"
            ),
            id="the columns the other way round",
        ),
        pytest.param("\ufeff" + profile(*LINES).replace("\n", "\r\n\r\n"), id="as Windows has it"),
    ],
)
def test_a_profile_says_the_rate_of_each_hour(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
    day = load_day(file, None, "Europe/Berlin")
    assert day.rates == tuple(RATES)
    assert (day.peak, day.name, day.time_zone) == (23.0, "day.csv", "Europe/Berlin")


def test_shares_are_of_the_rate(file: Path) -> None:
    file.write_text(
        profile(*(f"{hour},{rate / 23}" for hour, rate in enumerate(RATES)), header="hour,share")
    )
    assert load_day(file, 46.0, "UTC").rates == pytest.approx([2 * rate for rate in RATES])


@pytest.mark.parametrize(
    ("text", "rate", "said"),
    [
        pytest.param(
            profile(*LINES[:5], *LINES[7:]),
            None,
            "day.csv: has nothing for the hours 5, 6",
            id="lack",
        ),
        pytest.param(profile(*LINES, "3,1"), None, r"day.csv:26: has hour 3 again", id="twice"),
        pytest.param(
            profile("0,1", "1,-2"), None, r"day.csv:3, rate: '-2' is no rate", id="negative"
        ),
        pytest.param(profile("0,nan"), None, r"day.csv:2, rate: 'nan' is no rate", id="nan"),
        pytest.param(profile("0,inf"), None, r"day.csv:2, rate: 'inf' is no rate", id="infinite"),
        pytest.param(profile("0,many"), None, r"day.csv:2, rate: 'many' is no rate", id="text"),
        pytest.param(profile("0,1e6"), None, r"day.csv:2: 1e\+06 is 1e\+06 requests/s", id="huge"),
        pytest.param(profile("0"), None, r"day.csv:2: has 1 values", id="a field lacks"),
        pytest.param(profile("24,1"), None, r"day.csv:2: '24' is no hour", id="hour 24"),
        pytest.param(profile("1.5,1"), None, r"day.csv:2: '1.5' is no hour", id="half an hour"),
        pytest.param(
            profile("0,1", header="hour,rps"),
            None,
            r"day.csv:1: has the columns hour,rps",
            id="column",
        ),
        pytest.param(
            profile("0,1,2", header="hour,rate,share"), 1.0, "name two: hour,rate or", id="columns"
        ),
        pytest.param(
            profile(*(f"{h},0" for h in range(24))), None, "has no requests", id="nothing"
        ),
        pytest.param(profile(*LINES), 5.0, "--rate: is for shares, and .* has rates", id="rates"),
        pytest.param(
            profile("0,1", header="hour,share"), None, "--rate: lacks", id="shares of nothing"
        ),
        pytest.param("0,1\n1,2\n", None, "a profile has the columns hour,rate or", id="no header"),
        pytest.param("", None, "a profile has the columns hour,rate or", id="an empty file"),
        pytest.param(profile('0,"1'), None, "cannot be read: unexpected end", id="a quote is open"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    file: Path, text: str, rate: float | None, said: str
) -> None:
    file.write_text(text)
    with pytest.raises(UserError, match=said) as refused:
        load_day(file, rate, "UTC")
    assert refused.value.code == "invalid-day"


def test_a_zone_that_is_none_is_refused(file: Path) -> None:
    with pytest.raises(UserError, match="--time-zone: 'Berlin' is none"):
        load_day(file, None, "Berlin")


def test_what_is_not_there_is_told(file: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_day(file, None, "UTC")


def arrivals(hourly: list[int], begins_s: float = 0.0) -> list[float]:
    """As many arrivals in each hour, evenly, from its first second to its last."""
    return [
        begins_s + 3600 * hour + 3600 * n / max(count - 1, 1) * 0.9999
        for hour, count in enumerate(hourly)
        for n in range(count)
    ]


def in_seconds(times: list[float]) -> str:
    return "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{at},9,2\n" for at in times)


def in_answers(times: list[float]) -> str:
    usage = {"prompt_tokens": 9, "completion_tokens": 2}
    return "".join(json.dumps({"created": int(at), "usage": usage}) + "\n" for at in times)


COUNTS = [360 + 36 * hour for hour in range(24)]


def test_a_trace_of_a_day_is_counted(file: Path) -> None:
    file.write_text(in_seconds(arrivals(COUNTS)))
    day = load_day(file, None, "UTC")
    assert day.rates == pytest.approx([count / 3600 for count in COUNTS], rel=0.001)


def test_of_several_days_each_hour_has_the_rate_of_its_busiest(file: Path) -> None:
    """The first hour's is the second day, the last hour's the first."""
    file.write_text(in_seconds(arrivals([*COUNTS[:-1], 9000, 7200, *COUNTS[1:]])))
    expected = [7200, *COUNTS[1:-1], 9000]
    rates = load_day(file, None, "UTC").rates
    assert rates == pytest.approx([count / 3600 for count in expected], rel=0.001)


MIDNIGHT_UNIX_S = 1_767_571_200.0  # 2026-01-05T00:00:00Z


@pytest.mark.parametrize(
    ("zone", "first"), [("UTC", 6), ("Asia/Tokyo", 15), ("America/New_York", 1)]
)
def test_arrivals_with_a_date_are_counted_on_the_clock_of_the_zone(
    file: Path, zone: str, first: int
) -> None:
    file.write_text(in_answers(arrivals(COUNTS + COUNTS[:1], MIDNIGHT_UNIX_S + 6 * 3600)))
    rates = load_day(file, None, zone).rates
    quietest = min(range(24), key=lambda hour: rates[hour])
    assert quietest == first


def test_a_trace_that_begins_at_noon_has_stamps_that_say_so(file: Path) -> None:
    rows = "".join(
        f"2026-01-{5 + hour // 24:02} {hour % 24:02}:{minute:02}:00.0000000,9,2\n"
        for hour in range(12, 37)
        for minute in range(0, 60, 4 if hour == 13 else 10)
    )
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    rates = load_day(file, None, "UTC").rates
    assert max(range(24), key=lambda hour: rates[hour]) == 13


def test_each_hour_of_a_trace_has_the_sizes_of_its_own_requests(file: Path) -> None:
    """Of all its days; arrivals without a date count from midnight."""
    rows = "".join(
        f"{hour * 3600 + minute * 60},{100 + hour},{1 + hour // 24}\n"
        for hour in range(26)
        for minute in range(0, 60, 20)
    )
    file.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    day = load_day(file, None, "UTC")
    prompts = [sorted(set(one.prompt_tokens.tolist())) for one in day.sizes]
    assert prompts == [[100, 124], [101, 125], *([100 + hour] for hour in range(2, 24))]
    assert set(day.sizes[1].output_tokens.tolist()) == {1, 2}
    assert load_day(profiled(file), None, "UTC").sizes == ()


def profiled(file: Path) -> Path:
    """The same day as a profile."""
    file.write_text(profile(*LINES))
    return file


def test_the_busiest_hour_has_the_most_tokens_a_second(file: Path) -> None:
    """Not the most requests, where it is known how long they are."""
    rows = "".join(
        f"{hour * 3600 + minute * 60},{9000 if hour == 5 else 10},5\n"
        for hour in range(24)
        for minute in range(0, 60, 4 if hour == 13 else 20)
    )
    file.write_text("arrival_s,prompt_tokens,output_tokens\n" + rows)
    day = load_day(file, None, "UTC")
    assert day.busiest.hour == 5
    assert day.peak == day.rates[5] < max(day.rates)
    without = load_day(profiled(file), None, "UTC")
    assert (without.busiest.hour, without.peak) == (None, max(RATES))


def test_a_trace_of_an_hour_is_no_day(file: Path) -> None:
    file.write_text(in_seconds(arrivals([100, 100, 100])))
    with pytest.raises(UserError, match=r"has nothing for the hours 3, 4, .*, 22, 23"):
        load_day(file, None, "UTC")


def test_of_a_trace_nothing_is_multiplied(file: Path) -> None:
    file.write_text(in_seconds(arrivals(COUNTS)))
    with pytest.raises(UserError, match=r"--rate: is for shares, and day.csv has none"):
        load_day(file, 3.0, "UTC")
