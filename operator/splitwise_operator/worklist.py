"""Which clusters have to be looked at again: each by one task, and not too often."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from splitwise_operator.store import Key

PAUSE_S: Final = 0.05
"""What changes within it is looked at together: one edit makes a burst of events."""
CALM_S: Final = 1.0
"""The least time between two looks for what Kubernetes makes of our objects: pods that come up
change many times, and people read status no faster."""
AT_ONCE: Final = 16
REVIEW_S: Final = 60.0
"""A cluster of which there is no news is looked at so often: its certificates grow old, and its
Secret, which is not watched, may have been deleted."""
RETRY_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)

Look = Callable[[Key], Awaitable[bool]]
"""Brings a cluster in order; False when it has to be tried again."""


class Worklist:
    """Wakes `look` for a cluster after every change, again when it has failed, and now and then."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._entries: dict[Key, _Entry] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def wake(self, key: Key, *, is_urgent: bool) -> None:
        """Has the cluster looked at: at once, or (not urgent) when it has been calm for a while."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            entry.task = asyncio.create_task(self._run(key, entry))
        entry.woken.set()
        if is_urgent:
            entry.urgent.set()

    async def forget(self, key: Key) -> None:
        """Looks at the cluster no more."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.task is not None:
            entry.task.cancel()

    async def close(self) -> None:
        """Ends all work."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key, entry: "_Entry") -> None:
        failures = 0
        while True:
            patience_s = RETRY_S[min(failures, len(RETRY_S)) - 1] if failures else REVIEW_S
            with suppress(TimeoutError):
                await asyncio.wait_for(entry.woken.wait(), patience_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(entry.urgent.wait(), entry.calm_s)
            await asyncio.sleep(PAUSE_S)
            entry.woken.clear()
            entry.urgent.clear()
            async with self._slots:
                failures = 0 if await self._look(key) else failures + 1
            entry.calm_s = CALM_S


class _Entry:
    """A cluster on the list."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        self.urgent = asyncio.Event()
        self.calm_s = 0.0
        self.task: asyncio.Task[None] | None = None
