"""Logs are lines of text or of JSON, written aside, and never wait for who reads them."""

import json
import subprocess
import sys
from typing import Any

import pytest

from splitwise_core.errors import UserError
from splitwise_core.logs import MOST_LINES, configure

SAYS = """
import logging, os
from splitwise_core.logs import configure, count_drops
log = configure("router", os.environ)
dropped = []
"""


def run(code: str, log_format: str = "json") -> list[str]:
    """The lines of a process's stderr."""
    done = subprocess.run(
        [sys.executable, "-c", SAYS + code],
        env={"SPLITWISE_LOG_FORMAT": log_format, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.splitlines()


def lines(code: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(code)]


def test_a_record_is_an_object_with_its_fields() -> None:
    (line,) = lines('log.info("done", extra={"fields": {"request_id": "r", "seconds": 0.5}})')
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "component": "router",
        "message": "done",
        "request_id": "r",
        "seconds": 0.5,
    }


def test_what_is_no_json_is_said_in_words() -> None:
    (line,) = lines('log.info("x", extra={"fields": {"why": ValueError("no"), "all": {1: {2}}}})')
    assert line["why"] == "no"
    assert line["all"] == {"1": "{2}"}


def test_an_exception_stays_in_its_line() -> None:
    (line,) = lines('try: 1 / 0\nexcept ZeroDivisionError: log.exception("a bug")')
    assert line["message"] == "a bug"
    assert "ZeroDivisionError" in line["exception"]


def test_text_is_the_default_and_has_an_exception_below() -> None:
    line, *traceback = run('try: 1 / 0\nexcept ZeroDivisionError: log.exception("a bug")', "text")
    assert 'level=error component=router msg="a bug"' in line
    assert traceback[-1] == "ZeroDivisionError: division by zero"


def test_another_format_is_refused() -> None:
    with pytest.raises(UserError, match="neither text nor json"):
        configure("router", {"SPLITWISE_LOG_FORMAT": "xml"})


def test_the_last_words_are_written() -> None:
    assert lines("for i in range(1000): log.info(str(i))")[-1]["message"] == "999"


def test_a_reader_that_hangs_costs_lines_and_no_time() -> None:
    """The pipe is never read: the first lines fill it, and the queue is full soon after."""
    code = SAYS + (
        f"for i in range({MOST_LINES}): log.info('a line of a hundred bytes or so' * 4)\n"
        f"log.info('two'), log.info('more')\n"
        "count_drops(dropped.append)\n"
        f"for i in range({MOST_LINES}): log.info('no room')\n"
        "print(sum(dropped), flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert int(process.stdout.readline()) > MOST_LINES / 2
    assert process.wait(timeout=60) == 0
    process.stdout.close()
    process.stderr.close()
