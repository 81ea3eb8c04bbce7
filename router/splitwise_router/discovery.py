"""The workers that exist: a file says which, or how to ask Kubernetes, and is read when it changes.

`{"workers": [...]}` lists them, written by whoever runs the processes. `{"endpointSlices": {...}}`
names a namespace and a label selector; then `endpoint_slices` keeps the list.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitwise_core.errors import UserError

POLL_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A worker pod and where it listens, as host:port. One that is not ready gets no new work."""

    address: str
    pod: str
    pool: str
    role: str
    ready: bool = True

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What stays the same for as long as it is the same worker."""
        return (self.address, self.pod, self.pool, self.role)


@dataclass(frozen=True, slots=True)
class SliceQuery:
    """Which EndpointSlices hold the workers; `selector` is a label selector."""

    namespace: str
    selector: str


Source = frozenset[Endpoint] | SliceQuery
"""What the file says: the workers themselves, or how to find them."""

Apply = Callable[[frozenset[Endpoint]], None]


def read_source(path: Path) -> Source:
    """What `path` says; no workers when the file is not there yet. Raises UserError."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return frozenset()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from error
    try:
        return _source(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, f"says not where workers are: {error!r}") from error


def _source(document: Any) -> Source:
    if "endpointSlices" in document:
        if "workers" in document:
            raise ValueError("both workers and endpointSlices")
        asked = document["endpointSlices"]
        return SliceQuery(str(asked["namespace"]), str(asked["selector"]))
    return frozenset(
        Endpoint(str(w["address"]), str(w["pod"]), str(w["pool"]), str(w["role"]))
        for w in document["workers"]
    )


async def watch_workers(
    path: Path,
    apply: Apply,
    watch_slices: Callable[[SliceQuery], Coroutine[Any, Any, None]],
    log: logging.Logger,
) -> None:
    """Calls `apply` with the workers now and after every change, for ever.

    While the file says how to ask Kubernetes, `watch_slices` does that instead. A damaged file is
    logged once and changes nothing: the workers known so far go on serving.
    """
    seen: tuple[int, int, int] | None = (0, 0, 0)
    present: Source | None = None
    watch: asyncio.Task[None] | None = None
    try:
        while True:
            stamp = _stamp(path)
            if stamp != seen:
                seen = stamp
                before, present = present, _read(path, present, log)
                if present != before:
                    if watch is not None:
                        watch.cancel()
                        watch = None
                    if isinstance(present, SliceQuery):
                        watch = asyncio.create_task(watch_slices(present))
                    elif present is not None:
                        apply(present)
            await asyncio.sleep(POLL_S)
    finally:
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])


def _read(path: Path, present: Source | None, log: logging.Logger) -> Source | None:
    """What the file says now, or `present` when it is damaged."""
    try:
        return read_source(path)
    except UserError as error:
        log.error("the list of workers is kept as it was", extra={"fields": {"why": error}})
        return present


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
        fix='write {"workers": [{"address": "host:port", "pod": ..., "pool": ..., "role": ...}]}, '
        'or {"endpointSlices": {"namespace": ..., "selector": ...}}',
    )
