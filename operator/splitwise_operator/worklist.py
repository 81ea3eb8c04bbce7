"""Which clusters have to be looked at again: each by one task, and not before a short pause."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from splitwise_operator.store import Key

PAUSE_S: Final = 0.05
"""What changes within it is looked at together: one edit makes a burst of events."""
AT_ONCE: Final = 16
RETRY_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)

Look = Callable[[Key], Awaitable[bool]]
"""Brings a cluster in order; False when it has to be tried again."""


class Worklist:
    """Wakes `look` for a cluster after every change, and later again when it has not succeeded."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._woken: dict[Key, asyncio.Event] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def wake(self, key: Key) -> None:
        """Has the cluster looked at soon."""
        self._woken.setdefault(key, asyncio.Event()).set()
        if key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._run(key))

    async def forget(self, key: Key) -> None:
        """Looks at the cluster no more."""
        task = self._tasks.pop(key, None)
        self._woken.pop(key, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()

    async def close(self) -> None:
        """Ends all work."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key) -> None:
        woken, failures = self._woken[key], 0
        while True:
            patience_s = RETRY_S[min(failures, len(RETRY_S)) - 1] if failures else None
            with suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), patience_s)
            await asyncio.sleep(PAUSE_S)
            woken.clear()
            async with self._slots:
                failures = 0 if await self._look(key) else failures + 1
