"""One log for all processes, on stderr: a line of text a record, or a line of JSON.

A record is formatted and written by a thread of its own. What serves requests only puts it into a
bounded queue: a reader that is slow, or hangs, costs lines, which are counted, and no time.
"""

import atexit
import json
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from logging.handlers import QueueHandler
from queue import Full, Queue
from threading import Thread
from typing import Final

from splitwise_core.errors import UserError

FORMAT: Final = "SPLITWISE_LOG_FORMAT"
"""The environment variable that chooses: `text`, or `json`."""

MOST_LINES: Final = 10_000
"""Records that wait to be written: some megabytes."""

STDERR: Final = 2

LAST_WORDS_S: Final = 1.0
"""How long a process that ends waits for its last lines to be written."""

Records = Queue[logging.LogRecord | None]
"""None is the last one."""


class _Formatter(logging.Formatter):
    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def _fields(self, record: logging.LogRecord) -> Mapping[str, object]:
        fields: Mapping[str, object] = getattr(record, "fields", {})
        return fields

    def _exception(self, record: logging.LogRecord) -> str:
        if record.exc_text or not record.exc_info:
            return record.exc_text or ""
        return self.formatException(record.exc_info)


class _Text(_Formatter):
    """`TIME level=info component=router msg="..." key=value`, and a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage().replace('"', "'").replace("\n", " | ")
        pairs = "".join(f" {key}={_value(value)}" for key, value in self._fields(record).items())
        line = (
            f"{self.formatTime(record)} level={record.levelname.lower()} "
            f'component={self._component} msg="{text}"{pairs}'
        )
        return f"{line}\n{said}" if (said := self._exception(record)) else line


class _Json(_Formatter):
    """An object: `time`, `level`, `component`, `message`, the record's fields, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": self._component,
            "message": record.getMessage(),
            **self._fields(record),
        }
        if said := self._exception(record):
            line["exception"] = said
        return json.dumps(line, default=str, ensure_ascii=False)


def _value(value: object) -> str:
    text = str(value).replace("\n", " | ")
    return f'"{text}"' if " " in text or not text else text


class _Queued(QueueHandler):
    """Puts records into the queue, or counts those that find no room."""

    def __init__(self, records: Records) -> None:
        super().__init__(records)
        self._dropped_early = 0
        self._count: Callable[[int], None] | None = None

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """A traceback is text from here on: the frames that it names live no longer for it."""
        if record.exc_info:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except Full:
            self.dropped()

    def dropped(self) -> None:
        """A line is given up."""
        if self._count is None:
            self._dropped_early += 1
        else:
            self._count(1)

    def count_with(self, count: Callable[[int], None]) -> None:
        count(self._dropped_early)
        self._count, self._dropped_early = count, 0


_FORMATS: Final[Mapping[str, type[_Formatter]]] = {"text": _Text, "json": _Json}


def configure(component: str, environment: Mapping[str, str]) -> logging.Logger:
    """The process's logger. Fields go in as `extra={"fields": {...}}`; prompts never do.

    What waits to be written is written at the process's end. Raises UserError where `environment`
    asks for a format that there is not.
    """
    asked = environment.get(FORMAT, "text")
    if asked not in _FORMATS:
        raise UserError(
            "environment",
            where=FORMAT,
            wrong=f"{asked!r} is neither text nor json",
            fix="set it to one of them, or unset it",
        )
    records: Records = Queue(MOST_LINES)
    queued = _Queued(records)
    logging.basicConfig(level=logging.INFO, handlers=[queued], force=True)
    writing = (records, _FORMATS[asked](component), queued.dropped)
    thread = Thread(target=_write, args=writing, name="log", daemon=True)
    thread.start()
    atexit.register(_finish, records, thread)
    return logging.getLogger(f"splitwise.{component}")


def configure_at_once(component: str) -> logging.Logger:
    """As `configure`, for a process that forks and so has no threads: text, written at once."""
    writer = logging.StreamHandler()
    writer.setFormatter(_Text(component))
    logging.basicConfig(level=logging.INFO, handlers=[writer], force=True)
    return logging.getLogger(f"splitwise.{component}")


def count_drops(count: Callable[[int], None]) -> None:
    """`count` hears of every line that is given up, those before it counted in."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Queued):
            handler.count_with(count)


def _write(records: Records, formatter: logging.Formatter, dropped: Callable[[], None]) -> None:
    """Writes to the descriptor itself: a process cannot end while a thread that holds the lock of
    `sys.stderr` hangs."""
    while (record := records.get()) is not None:
        try:
            line = memoryview(f"{formatter.format(record)}\n".encode(errors="backslashreplace"))
            while line:
                line = line[os.write(STDERR, line) :]
        except Exception:  # arguments that fit no message too: the lines behind it are to come
            dropped()


def _finish(records: Records, thread: Thread) -> None:
    with suppress(Full):  # nobody reads: nor would they read what is left
        records.put(None, timeout=LAST_WORDS_S)
    thread.join(LAST_WORDS_S)
