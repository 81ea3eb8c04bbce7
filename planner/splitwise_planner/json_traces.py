"""JSON lines that tell of requests: Mooncake's traces, logged answers in OpenAI's form, and the log
of our own router.

The first line says which of them a file is. Every line is read by itself, and a fault named with
its number; what has to be put in order of arrival is, once all are read.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, groupby
from typing import Any, Final, NamedTuple, TextIO

from splitwise_core.request_log import REQUEST
from splitwise_core.trace import refused
from splitwise_planner.prefix_ids import PrefixIds


class Request(NamedTuple):
    """A line of a trace. `prefix_ids` say which prompts begin alike, see there; none: not known."""

    request_id: int
    arrival_s: float
    prompt_tokens: int
    output_tokens: int
    prefix_ids: tuple[int, ...] = ()


Row = Mapping[str, Any]

Numbered = Iterator[tuple[int, Request]]
"""Requests with the numbers of their lines."""

Begun = tuple[float | None, Numbered]
"""When the first of the requests arrived, in seconds since 1970 where that is known, and all."""

ANSWERED: Final = 200

FORMS: Final = (
    "Mooncake's timestamp, input_length and output_length, OpenAI's answers with created and "
    "usage, or a router's log with router.requestLog on"
)


def read_json(file: TextIO, where: str) -> Begun:
    """The requests of a file of JSON lines, in the order of ids. Raises UserError (invalid-trace)
    naming the line."""
    rows = _rows(file, where)
    first = next(rows, None)
    if first is None:
        return None, iter(())
    form = _form_of(first[1], f"{where}:{first[0]}")
    return form(chain([first], rows), where)


def _form_of(row: Row, where: str) -> Callable[[Iterable[tuple[int, Row]], str], Begun]:
    if "input_length" in row or "output_length" in row:
        return _mooncake
    if "message" in row and "component" in row:
        return _router_log
    if "usage" in row or "response" in row:
        return _answers
    raise refused(where, f"has the fields {', '.join(row)[:100] or 'of nothing'}", f"give {FORMS}")


def _mooncake(rows: Iterable[tuple[int, Row]], where: str) -> Begun:
    """Lines as Mooncake publishes them; their stamps are milliseconds."""
    return None, _mooncake_requests(rows, where)


def _mooncake_requests(rows: Iterable[tuple[int, Row]], where: str) -> Numbered:
    ids = PrefixIds()
    for count, (number, row) in enumerate(rows):
        line = f"{where}:{number}"
        prompt = _tokens(row, "input_length", line)
        yield (
            number,
            Request(
                count,
                _number(row, "timestamp", line) / 1000,
                prompt,
                _tokens(row, "output_length", line),
                ids.read(row.get("hash_ids"), prompt, line),
            ),
        )


def _router_log(rows: Iterable[tuple[int, Row]], where: str) -> Begun:
    """Lines of a router about requests, by arrival; a line of anything else is none of a trace.

    A request that had no token, turned away or failed, cost the workers nothing.
    """
    found = []
    for number, row in rows:
        if row.get("message") != REQUEST or row.get("output_tokens") == 0:
            continue
        line = f"{where}:{number}"
        arrived_s = _number(row, "arrived_unix_s", line)
        sizes = (_tokens(row, "prompt_tokens", line), _tokens(row, "output_tokens", line))
        found.append((arrived_s, number, *sizes))
    found.sort()
    return _from_the_first(found)


def _answers(rows: Iterable[tuple[int, Row]], where: str) -> Begun:
    """Answers of an OpenAI API as clients log them: alone, or in the lines of a batch's output.

    Their stamps are whole seconds: those of one second are spread over it, in the file's order. An
    answer that a batch has an error for is left out: it had no tokens.
    """
    found = []
    for number, row in rows:
        line = f"{where}:{number}"
        answer = _answer_of(row, line)
        if answer is None:
            continue
        usage = answer.get("usage")
        if not isinstance(usage, Mapping):
            fix = "log answers with their usage; of streams, ask for stream_options.include_usage"
            raise refused(line, "has no usage", fix)
        stamp = "created" if "created" in answer else "created_at"
        prompt = "prompt_tokens" if "prompt_tokens" in usage else "input_tokens"
        output = "completion_tokens" if "completion_tokens" in usage else "output_tokens"
        sizes = (_tokens(usage, prompt, line), _tokens(usage, output, line))
        found.append((_number(answer, stamp, line), number, *sizes))
    found.sort()
    spread = []
    for second, group in groupby(found, key=lambda one: one[0]):
        alike = list(group)
        share = 1 / len(alike)
        spread += [(second + i * share, *one[1:]) for i, one in enumerate(alike)]
    return _from_the_first(spread)


def _answer_of(row: Row, line: str) -> Row | None:
    """The answer in a line; None where there was none, but an error."""
    if "response" not in row:
        return row
    response = row["response"]
    if row.get("error") or not isinstance(response, Mapping):
        return None
    if response.get("status_code", ANSWERED) != ANSWERED:
        return None
    body = response.get("body", response)
    if not isinstance(body, Mapping):
        raise refused(f"{line}, response", "is no object", "give the answer as it came")
    return body


def _from_the_first(found: list[tuple[float, int, int, int]]) -> Begun:
    """Requests whose arrivals count from the first one's."""
    first_s = found[0][0] if found else None
    return first_s, (
        (number, Request(count, at_s - found[0][0], prompt, output))
        for count, (at_s, number, prompt, output) in enumerate(found)
    )


def _rows(file: TextIO, where: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise refused(f"{where}:{number}", f"is not JSON ({error})", "correct it") from error
        if not isinstance(row, dict):
            raise refused(f"{where}:{number}", "is not an object", "one object a line")
        yield number, row


def _number(row: Row, name: str, line: str) -> float:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise refused(f"{line}, {name}", f"is {value!r}", "give a number")
    return float(value)


def _tokens(row: Row, name: str, line: str) -> int:
    value = _number(row, name, line)
    if value != int(value):
        raise refused(f"{line}, {name}", f"is {value!r}", "give a whole number")
    return int(value)
