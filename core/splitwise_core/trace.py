"""Traces of requests: when each arrived, and how many tokens it had. CSV lines in, records out.

Read by the load laboratory and by whatever else replays or simulates a load. Two forms are known by
their header: that of the Azure LLM inference traces (Azure Public Dataset, 2023 and later), whose
arrivals are points in time, and one whose arrivals are seconds. Other columns may stand beside.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from math import isfinite
from typing import Final

from splitwise_core.errors import UserError

AZURE: Final = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
SECONDS: Final = ("arrival_s", "prompt_tokens", "output_tokens")

MOST_TOKENS: Final = 1 << 24
"""More in one request is a mistake in the file."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a trace. `at_s` is in seconds since the first arrival, or since the start."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def read_trace(lines: Iterable[str], where: str) -> Iterator[Arrival]:
    """The requests of a CSV trace in order; the first arrives at 0 s. Holds one line at a time.

    `where` names the file in errors. Raises UserError with the line's number for one that does not
    read, that arrives before the one above it, or when there is no request at all.
    """
    rows = csv.reader(lines, strict=True)
    first_s = before_s = None
    try:
        columns = _columns(next(rows, []), where)
        for row in rows:
            if not row:
                continue
            line = f"{where}, line {rows.line_num}"
            at_s, prompt_tokens, output_tokens = _parse(row, columns, line)
            first_s = at_s if first_s is None else first_s
            if before_s is not None and at_s < before_s:
                raise refused(line, "it arrives before the line above", "sort the file by arrival")
            before_s = at_s
            yield Arrival(at_s - first_s, prompt_tokens, output_tokens)
    except csv.Error as error:
        raise refused(f"{where}, line {rows.line_num}", str(error), "write it as CSV") from error
    if first_s is None:
        raise refused(where, "there is no request in it", "add a line for each request")


def begins_unix_s(lines: Iterable[str], where: str) -> float | None:
    """When the first request of a CSV trace arrived, in seconds since 1970; None where its arrivals
    are seconds of its own. Raises UserError as `read_trace`."""
    rows = csv.reader(lines, strict=True)
    columns = _columns(next(rows, []), where)
    row = next(filter(None, rows), None)
    if row is None or AZURE[0] not in columns:
        return None
    return _parse(row, columns, f"{where}, line {rows.line_num}")[0]


def write_trace(arrivals: Iterable[Arrival]) -> Iterator[str]:
    """The lines of a trace whose arrivals are seconds: what `read_trace` reads."""
    rows = (f"{a.at_s:.6f},{a.prompt_tokens},{a.output_tokens}" for a in arrivals)
    return (f"{line}\n" for line in chain([",".join(SECONDS)], rows))


def _columns(header: Sequence[str], where: str) -> Mapping[str, int]:
    """Where each column of ours stands. Raises UserError when the header is of neither form."""
    found = {name.strip().lstrip("\ufeff"): index for index, name in enumerate(header)}
    for form in (AZURE, SECONDS):
        if all(name in found for name in form):
            return {name: found[name] for name in form}
    told = ", ".join(found) or "nothing"
    raise refused(
        f"{where}, line 1",
        f"the header has {told}",
        f"name the columns {','.join(AZURE)}, or {','.join(SECONDS)}",
    )


def _parse(row: Sequence[str], columns: Mapping[str, int], line: str) -> tuple[float, int, int]:
    """Seconds, prompt tokens and output tokens of a row."""
    if len(row) <= max(columns.values()):
        fix = f"give it {max(columns.values()) + 1} fields at least"
        raise refused(line, f"it has {len(row)} fields", fix)
    fields = [(f"{line}, {name}", row[index].strip()) for name, index in columns.items()]
    (at_where, at), (prompt_where, prompt), (output_where, output) = fields
    at_s = _point_s(at, at_where) if AZURE[0] in columns else _seconds(at, at_where)
    return at_s, _tokens(prompt, prompt_where), _tokens(output, output_where)


def _point_s(text: str, where: str) -> float:
    """A point in time in seconds. Without a zone it is taken as UTC's."""
    try:
        return datetime.fromisoformat(text if _has_zone(text) else f"{text}+00:00").timestamp()
    except ValueError as error:
        fix = "write it as 2023-11-16 18:15:46.680590"
        raise refused(where, f"{text!r} is no point in time", fix) from error


def _has_zone(text: str) -> bool:
    return text.endswith("Z") or "+" in text or text.count("-") > 2


def _seconds(text: str, where: str) -> float:
    try:
        at_s = float(text)
    except ValueError:
        at_s = float("nan")
    if not isfinite(at_s):
        raise refused(where, f"{text!r} is no number", "write seconds, such as 12.5")
    return at_s


def _tokens(text: str, where: str) -> int:
    is_short = text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_TOKENS))
    if not is_short or not 1 <= int(text) <= MOST_TOKENS:
        wrong = f"{text[:20]!r} is no count of tokens"
        raise refused(where, wrong, f"write 1 to {MOST_TOKENS}")
    return int(text)


def refused(where: str, wrong: str, fix: str) -> UserError:
    """An error of a trace, to be raised."""
    return UserError("invalid-trace", where=where, wrong=wrong, fix=fix)
