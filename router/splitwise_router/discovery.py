"""The workers that exist: a file that is replaced whenever that changes, and read again then."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitwise_core.errors import UserError

POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A worker pod and where it listens, as host:port."""

    address: str
    pod: str
    pool: str
    role: str


def read_endpoints(path: Path) -> frozenset[Endpoint]:
    """The workers listed in `path`; none when the file is not there yet. Raises UserError."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    try:
        workers = json.loads(text)["workers"]
        return frozenset(
            Endpoint(str(w["address"]), str(w["pod"]), str(w["pool"]), str(w["role"]))
            for w in workers
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, f"not a list of workers: {error!r}") from error


async def watch_endpoints(
    path: Path, apply: Callable[[frozenset[Endpoint]], None], log: logging.Logger
) -> None:
    """Calls `apply` with the workers now and after every change of the file, for ever.

    A damaged file is logged once and changes nothing: the workers known so far go on serving.
    """
    seen: tuple[int, int, int] | None = (0, 0, 0)
    while True:
        stamp = _stamp(path)
        if stamp != seen:
            seen = stamp
            try:
                apply(read_endpoints(path))
            except UserError as error:
                log.error("the list of workers is kept as it was", extra={"fields": {"why": error}})
        await asyncio.sleep(POLL_S)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What tells two versions of a file apart; None when there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _unreadable(path: Path, wrong: str) -> UserError:
    return UserError(
        "unreadable-file",
        where=str(path),
        wrong=wrong,
        fix='write {"workers": [{"address": "host:port", "pod": ..., "pool": ..., "role": ...}]}',
    )
