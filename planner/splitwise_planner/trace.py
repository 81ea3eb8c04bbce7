"""Traces of requests: a file in, arrival times and sizes out; wrong lines are named.

Known by their columns: the released simulator's own CSV, the Azure LLM inference traces of 2023 and
2024, and JSON lines as Mooncake publishes them.
"""

import csv
import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from splitwise_core.errors import UserError

MAX_REQUESTS: Final = 5_000_000
MAX_TOKENS: Final = 10_000_000
"""Of one prompt or output: far beyond any model's context, small enough for all sums."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of the file, as columns of one length.

    `arrival_s` counts from the trace's start; `output_tokens` has the prompt's own first token.
    """

    request_id: NDArray[np.int64]
    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.request_id)


Request = tuple[int, float, int, int]
"""Id, arrival in seconds, prompt tokens, output tokens."""

Reader = Callable[[Mapping[str, str], int], Request]


def load_trace(path: Path) -> Trace:
    """The trace in a file, plain or gzipped. Raises UserError (invalid-trace) naming the line."""
    try:
        with _opened(path) as file:
            requests = list(_requests(path, file))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise _refused(str(path), f"cannot be read: {error}", "give a CSV or JSONL file") from error
    if not requests:
        raise _refused(str(path), "holds no requests", "give at least one")
    ids, arrivals, prompts, outputs = zip(*requests)
    trace = Trace(
        np.array(ids, np.int64),
        np.array(arrivals, np.float64),
        np.array(prompts, np.int64),
        np.array(outputs, np.int64),
    )
    if len(np.unique(trace.request_id)) < len(trace):
        raise _refused(str(path), "has a request_id twice", "give each request its own")
    return trace


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8", newline=""))
    return path.open(encoding="utf-8", newline="")


def _requests(path: Path, file: TextIO) -> Iterator[Request]:
    """Every request, checked, the first arrival of absolute stamps being zero."""
    rows, read = _recognised(path, file)
    for count, (number, row) in enumerate(rows):
        where = f"{path}:{number}"
        if count >= MAX_REQUESTS:
            raise _refused(where, f"is beyond {MAX_REQUESTS} requests", "split the trace")
        try:
            request = read(row, count)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise _refused(where, f"cannot be read ({error})", "correct the line") from error
        _check(where, request)
        yield request


def _check(where: str, request: Request) -> None:
    _, arrival_s, prompt, output = request
    if not 0 <= arrival_s < 1e9:
        raise _refused(where, f"arrives at {arrival_s} s", "arrivals count from zero and go up")
    for name, tokens in (("prompt", prompt), ("output", output)):
        if not 1 <= tokens <= MAX_TOKENS:
            wrong = f"has {tokens} {name} tokens"
            raise _refused(where, wrong, f"a request has 1 to {MAX_TOKENS} of them")


def _recognised(path: Path, file: TextIO) -> tuple[Iterator[tuple[int, Mapping[str, str]]], Reader]:
    """The rows of a file with their line numbers, and what reads one of them."""
    first = file.readline()
    file.seek(0)
    if first.lstrip().startswith("{"):
        return _json_rows(path, file), _json_request
    rows = csv.DictReader(file)
    names = set(rows.fieldnames or ())
    if {"arrival_timestamp", "prompt_size", "token_size"} <= names:
        return _csv_rows(path, rows), _simulator_request
    if {"TIMESTAMP", "ContextTokens", "GeneratedTokens"} <= names:
        return _csv_rows(path, rows), _AzureReader()
    raise _refused(
        f"{path}:1",
        f"has the columns {', '.join(sorted(names)[:8]) or 'of no trace'}",
        "use request_id,arrival_timestamp,prompt_size,token_size, the columns of the Azure traces "
        "(TIMESTAMP,ContextTokens,GeneratedTokens), or JSON lines with timestamp, input_length and "
        "output_length",
    )


def _csv_rows(path: Path, rows: "csv.DictReader[str]") -> Iterator[tuple[int, Mapping[str, str]]]:
    for row in rows:
        if None in row or None in row.values():
            where = f"{path}:{rows.line_num}"
            raise _refused(where, "has not as many values as the header", "complete the line")
        yield rows.line_num, row


def _json_rows(path: Path, file: TextIO) -> Iterator[tuple[int, Mapping[str, str]]]:
    for number, line in enumerate(file, 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _refused(f"{path}:{number}", f"is not JSON ({error})", "correct it") from error
        if not isinstance(row, dict):
            raise _refused(f"{path}:{number}", "is not an object", "one object a line")
        yield number, row


def _simulator_request(row: Mapping[str, str], count: int) -> Request:
    """A row of the released simulator's trace; columns that it leaves at one value must have it."""
    for name, only in (("request_type", 2), ("batch_size", 1)):
        if _whole(row.get(name, only)) != only:
            raise ValueError(f"{name} is {row[name]}, only {only} is known")
    return (
        _whole(row.get("request_id", count)),
        float(row["arrival_timestamp"]),
        _whole(row["prompt_size"]),
        _whole(row["token_size"]),
    )


class _AzureReader:
    """Reads rows of the Azure traces; arrivals count from the first row's stamp."""

    def __init__(self) -> None:
        self._start: datetime | None = None
        self._fraction_s = 0.0

    def __call__(self, row: Mapping[str, str], count: int) -> Request:
        # Stamps have seven digits after the second, one more than datetime keeps.
        second, _, rest = row["TIMESTAMP"].removesuffix("+00:00").partition(".")
        stamp, fraction_s = datetime.fromisoformat(second), float(f"0.{rest or 0}")
        if self._start is None:
            self._start, self._fraction_s = stamp, fraction_s
        arrival_s = (stamp - self._start).total_seconds() + (fraction_s - self._fraction_s)
        return count, arrival_s, _whole(row["ContextTokens"]), _whole(row["GeneratedTokens"])


def _json_request(row: Mapping[str, str], count: int) -> Request:
    """A line as Mooncake publishes them; its stamps are milliseconds."""
    arrival_s = float(row["timestamp"]) / 1000
    return count, arrival_s, _whole(row["input_length"]), _whole(row["output_length"])


def _whole(value: object) -> int:
    """A whole number, also where it is written as 12.0."""
    number = float(cast(str, value))
    if number != int(number):
        raise ValueError(f"{value} is not a whole number")
    return int(number)


def _refused(where: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-trace", where=where, wrong=wrong, fix=fix)
