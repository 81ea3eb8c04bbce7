"""Requests a second in each hour of a day: from a profile that says them, or from a trace of a day
or longer, where they are counted, and have sizes.

A profile is CSV with a line for each hour from 0 to 23, and the columns `hour,rate` (requests a
second) or `hour,share` (times --rate). Anything else is read as a trace.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Final, NamedTuple, TextIO
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from splitwise_core.errors import UserError
from splitwise_core.spec_autoscaling import is_time_zone
from splitwise_planner.trace import Trace, load_trace, opened

HOURS: Final = 24
HOUR_S: Final = 3600.0
MOST_RATE: Final = 1e5

RATE: Final = {"hour", "rate"}
SHARE: Final = {"hour", "share"}

COVERED: Final = 0.5
"""Of an hour, what a trace has to cover at least: less says too little of it."""


class Load(NamedTuple):
    """Requests a second, and the hour of the day that they have their sizes from; None where hours
    do not differ in that."""

    rate: float
    hour: int | None = None


@dataclass(frozen=True, slots=True)
class Day:
    """Requests a second from each hour on; `time_zone` is that of the hours. `sizes` are the
    requests that came in each, and none where only their rates are known."""

    rates: tuple[float, ...]
    name: str
    time_zone: str = "UTC"
    sizes: tuple[Trace, ...] = field(default=(), compare=False)

    @property
    def loads(self) -> list[Load]:
        """What each hour asks for."""
        return [Load(rate, hour if self.sizes else None) for hour, rate in enumerate(self.rates)]

    @property
    def busiest(self) -> Load:
        """The load with the most tokens a second."""
        return max(self.loads, key=self.tokens_per_s)

    @property
    def peak(self) -> float:
        """Requests a second of the busiest hour."""
        return self.busiest.rate

    def tokens_per_s(self, load: Load) -> float:
        """How much a load asks for: of prompts and answers together, and where their sizes are not
        known in requests, to which tokens are in proportion then."""
        if load.hour is None or not load.rate:
            return load.rate
        own = self.sizes[load.hour]
        return load.rate * float(np.mean(own.prompt_tokens + own.output_tokens))


def load_day(path: Path, rate: float | None, time_zone: str) -> Day:
    """The day in a file. `rate` is what shares are of. Raises UserError (invalid-day) naming the
    line, or the hours that lack."""
    if not is_time_zone(time_zone):
        raise _refused(
            "--time-zone", f"{time_zone!r} is none", "write a name of the IANA's, as Europe/Berlin"
        )
    try:
        with opened(path) as file:
            rates = _profile(file, str(path), rate)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise _refused(str(path), f"cannot be read: {error}", "give a CSV file") from error
    if rates is None:
        if rate is not None:
            fix = "leave out --rate: requests are counted"
            raise _refused("--rate", f"is for shares, and {path.name} has none", fix)
        return _counted(path, time_zone)
    if max(rates) <= 0:
        raise _refused(str(path), "has no requests in any hour", "give one hour a rate above 0")
    return Day(tuple(rates), path.name, time_zone)


def _profile(file: TextIO, where: str, rate: float | None) -> list[float] | None:
    """The rates that a profile says; None where the file is none."""
    header = [name.strip().lstrip("\ufeff") for name in file.readline().split(",")]
    if "hour" not in header:
        return None
    if len(header) != 2 or set(header) not in (RATE, SHARE):
        wrong = f"has the columns {','.join(header)}"
        raise _refused(f"{where}:1", wrong, "name two: hour,rate or hour,share")
    is_share = set(header) == SHARE
    if is_share == (rate is None):
        wrong = "lacks" if is_share else f"is for shares, and {where} has rates"
        fix = "say what the shares are of" if is_share else "leave it out"
        raise _refused("--rate", wrong, fix)
    factor = rate if is_share and rate is not None else 1.0
    found: dict[int, float] = {}
    for line, hour, value in _lines(csv.reader(file, strict=True), header, where):
        if hour in found:
            raise _refused(line, f"has hour {hour} again", "give each hour one line")
        if not 0 <= value * factor <= MOST_RATE:
            wrong = f"{value:g} is {value * factor:g} requests/s"
            raise _refused(line, wrong, f"give 0 to {MOST_RATE:g}")
        found[hour] = value * factor
    return _complete(found, where, "give each hour from 0 to 23 a line; 0 where nobody asks")


def _lines(
    rows: Iterator[list[str]], header: list[str], where: str
) -> Iterator[tuple[str, int, float]]:
    """Each line's place, hour and number."""
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        line = f"{where}:{number}"
        if len(row) != len(header):
            raise _refused(line, f"has {len(row)} values", f"give {','.join(header)}")
        named = {name: text.strip() for name, text in zip(header, row)}
        hour = named.pop("hour")
        if not (hour.isascii() and hour.isdecimal() and len(hour) <= 2 and int(hour) < HOURS):
            raise _refused(line, f"{hour!r} is no hour", "write 0 to 23")
        ((name, text),) = named.items()
        yield line, int(hour), _number(text, f"{line}, {name}")


def _number(text: str, where: str) -> float:
    """A number from zero on."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value) or value < 0:
        raise _refused(where, f"{text[:20]!r} is no rate", "write a number from 0 on")
    return value


def _counted(path: Path, time_zone: str) -> Day:
    """The day of a trace: each hour has the rate of its busiest day, and the sizes of all its days.
    Arrivals that have no date count from midnight."""
    try:
        trace = load_trace(path)
    except UserError as error:
        fix = f"{error.fix}; a profile has the columns hour,rate or hour,share"
        raise _refused(error.where, error.wrong, fix) from error
    midnight_s = _since_midnight_s(trace, time_zone)
    begins_s = midnight_s + float(trace.arrival_s.min())
    ends_s = midnight_s + float(trace.arrival_s.max())
    slots = ((midnight_s + trace.arrival_s) // HOUR_S).astype(np.int64)
    counts = np.bincount(slots)
    found: dict[int, float] = {}
    for slot, count in enumerate(counts.tolist()):
        covered_s = min(ends_s, (slot + 1) * HOUR_S) - max(begins_s, slot * HOUR_S)
        if covered_s >= COVERED * HOUR_S:
            rate = count / covered_s
            found[slot % HOURS] = max(rate, found.get(slot % HOURS, 0.0))
    rates = _complete(found, str(path), "give a trace that covers each hour of a day")
    sizes = tuple(_part(trace, slots % HOURS == hour) for hour in range(HOURS))
    return Day(tuple(rates), path.name, time_zone, sizes)


def _part(trace: Trace, wanted: NDArray[np.bool_]) -> Trace:
    """Some requests of a trace."""
    return replace(
        trace,
        request_id=trace.request_id[wanted],
        arrival_s=trace.arrival_s[wanted],
        prompt_tokens=trace.prompt_tokens[wanted],
        output_tokens=trace.output_tokens[wanted],
        prefix_ids=(),
    )


def _since_midnight_s(trace: Trace, time_zone: str) -> float:
    """From midnight until the trace's start. Clocks that are changed while it goes on are not."""
    if trace.begins_unix_s is None:
        return 0.0
    began = datetime.fromtimestamp(trace.begins_unix_s, ZoneInfo(time_zone))
    return began.hour * HOUR_S + began.minute * 60 + began.second + began.microsecond / 1e6


def _complete(found: dict[int, float], where: str, fix: str) -> list[float]:
    """The rates in order of hours, if all are there."""
    lacking = [str(hour) for hour in range(HOURS) if hour not in found]
    if lacking:
        raise _refused(where, f"has nothing for the hours {', '.join(lacking)}", fix)
    return [found[hour] for hour in range(HOURS)]


def _refused(where: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-day", where=where, wrong=wrong, fix=fix)
