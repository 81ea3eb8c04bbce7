"""Traces of requests: a file in, arrival times and sizes out; wrong lines are named.

Known by their columns: the released simulator's own CSV, the forms that all of Splitwise reads
(`splitwise_core.trace`), and JSON lines (`json_traces`).
"""

import csv
import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from splitwise_core.errors import UserError
from splitwise_core.trace import AZURE, SECONDS, begins_unix_s, read_trace, refused
from splitwise_planner.json_traces import FORMS, Begun, Numbered, Request, read_json

MAX_REQUESTS: Final = 5_000_000
MAX_TOKENS: Final = 10_000_000
"""Of one prompt or output: far beyond any model's context, small enough for all sums."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of the file, as columns of one length.

    `arrival_s` counts from the trace's start; `output_tokens` has the prompt's own first token.
    `prefix_ids` say which prompts begin alike (see there), and are none where no line tells.
    `begins_unix_s` is when it started, in seconds since 1970, where the file says so.
    """

    request_id: NDArray[np.int64]
    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    prefix_ids: Sequence[tuple[int, ...]] = ()
    begins_unix_s: float | None = None

    def __len__(self) -> int:
        return len(self.request_id)

    @property
    def sizes(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Tokens of prompts and of answers."""
        return self.prompt_tokens, self.output_tokens


Row = Mapping[str, str]

Reader = Callable[[Row, int], Request]

SIMULATOR: Final = {"arrival_timestamp", "prompt_size", "token_size"}
"""Columns of the released simulator's own traces."""


def load_trace(path: Path) -> Trace:
    """The trace in a file, plain or gzipped. Raises UserError (invalid-trace) naming the line."""
    try:
        with opened(path) as file:
            began_s, found = _requests(path, file)
            requests = list(_checked(path, found))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise refused(str(path), f"cannot be read: {error}", "give a CSV or JSONL file") from error
    if not requests:
        raise refused(str(path), "holds no requests", "give at least one")
    ids, arrivals, prompts, outputs, prefixes = zip(*requests)
    trace = Trace(
        np.array(ids, np.int64),
        np.array(arrivals, np.float64),
        np.array(prompts, np.int64),
        np.array(outputs, np.int64),
        prefixes if any(prefixes) else (),
        began_s,
    )
    if len(np.unique(trace.request_id)) < len(trace):
        raise refused(str(path), "has a request_id twice", "give each request its own")
    return trace


def opened(path: Path) -> TextIO:
    """A file to read, plain or gzipped."""
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, "rt", encoding="utf-8", newline=""))
    return path.open(encoding="utf-8", newline="")


def _requests(path: Path, file: TextIO) -> Begun:
    """Every request as its form tells it."""
    first = file.readline()
    file.seek(0)
    names = {name.strip().lstrip("\ufeff") for name in first.split(",")}
    if first.lstrip().startswith("{"):
        return read_json(file, str(path))
    if names >= SIMULATOR:
        return None, _read(path, _csv_rows(path, csv.DictReader(file)), _simulator_request)
    if set(AZURE) <= names or set(SECONDS) <= names:
        begins = begins_unix_s(file, str(path))
        file.seek(0)
        arrivals = enumerate(read_trace(file, str(path)))
        return begins, (
            (n, Request(n, a.at_s, a.prompt_tokens, a.output_tokens)) for n, a in arrivals
        )
    raise _unknown(path, first)


def _checked(path: Path, found: Numbered) -> Iterator[Request]:
    """The requests, if there are not too many, and none is impossible."""
    for count, (number, request) in enumerate(found):
        if count >= MAX_REQUESTS:
            where = f"{path}:{number}"
            raise refused(where, f"is beyond {MAX_REQUESTS} requests", "split the trace")
        _check(f"{path}:{number}", request)
        yield request


def _read(path: Path, rows: Iterator[tuple[int, Row]], read: Reader) -> Numbered:
    """The request in each row, with its line number."""
    for count, (number, row) in enumerate(rows):
        try:
            yield number, read(row, count)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            wrong = f"cannot be read ({error})"
            raise refused(f"{path}:{number}", wrong, "correct the line") from error


def _unknown(path: Path, first: str) -> UserError:
    if "component=router" in first:
        fix = "set monitoring.logFormat: json, and router.requestLog: requests"
        return refused(f"{path}:1", "is a router's log as text", fix)
    return refused(
        f"{path}:1",
        f"has the columns {first.strip()[:100] or 'of no trace'}",
        f"name the columns request_id,{','.join(sorted(SIMULATOR))}, {','.join(AZURE)} or "
        f"{','.join(SECONDS)}, or give JSON lines: {FORMS}",
    )


def _check(where: str, request: Request) -> None:
    if not 0 <= request.arrival_s < 1e9:
        wrong = f"arrives at {request.arrival_s} s"
        raise refused(where, wrong, "arrivals count from zero and go up")
    for name, tokens in (("prompt", request.prompt_tokens), ("output", request.output_tokens)):
        if not 1 <= tokens <= MAX_TOKENS:
            wrong = f"has {tokens} {name} tokens"
            raise refused(where, wrong, f"a request has 1 to {MAX_TOKENS} of them")


def _csv_rows(path: Path, rows: "csv.DictReader[str]") -> Iterator[tuple[int, Row]]:
    for row in rows:
        if None in row or None in row.values():
            where = f"{path}:{rows.line_num}"
            raise refused(where, "has not as many values as the header", "complete the line")
        yield rows.line_num, row


def _simulator_request(row: Row, count: int) -> Request:
    """A row of the released simulator's trace; columns that it leaves at one value must have it."""
    for name, only in (("request_type", 2), ("batch_size", 1)):
        if _whole(row.get(name, only)) != only:
            raise ValueError(f"{name} is {row[name]}, only {only} is known")
    return Request(
        _whole(row.get("request_id", count)),
        float(row["arrival_timestamp"]),
        _whole(row["prompt_size"]),
        _whole(row["token_size"]),
    )


def _whole(value: object) -> int:
    """A whole number, also where it is written as 12.0."""
    number = float(cast(str, value))
    if number != int(number):
        raise ValueError(f"{value} is not a whole number")
    return int(number)
