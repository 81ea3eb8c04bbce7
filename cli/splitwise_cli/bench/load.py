"""The open loop: each request is sent when it is due, whatever became of those before it."""

import asyncio
import resource
import time
from collections.abc import Callable, Iterable
from typing import Final

from splitwise_cli.bench.answers import Answer, Asked
from splitwise_cli.bench.client import Client
from splitwise_cli.bench.summary import Summary
from splitwise_core.trace import Arrival

MOST_OPEN: Final = 16_384
"""Requests that are under way at once: each takes a port of this machine, of some 28,000."""

_FILES_OF_OUR_OWN: Final = 64


class Load:
    """Sends `arrivals` and adds up their answers. `stop` ends it early, with what there is."""

    def __init__(
        self,
        arrivals: Iterable[Arrival],
        make: Callable[[Arrival], Asked],
        client: Client,
        summary: Summary,
        ended: Callable[[Answer], None] | None = None,
    ) -> None:
        """`ended` is told of each answer beside the summary."""
        self._arrivals = arrivals
        self._make = make
        self._client = client
        self._summary = summary
        self._ended = ended or (lambda answer: None)
        self._open: set[asyncio.Task[None]] = set()
        self._most_open = _most_open()
        self._stopped = asyncio.Event()
        self._began_s = time.perf_counter()
        self._ended_s: float | None = None

    @property
    def seconds(self) -> float:
        """From the first request to the end of the last one, or to now; above 0."""
        return max(1e-9, (self._ended_s or time.perf_counter()) - self._began_s)

    @property
    def open(self) -> int:
        """Requests that are under way."""
        return len(self._open)

    def stop(self) -> None:
        """Ends it: nothing more is sent, and what is under way counts as unfinished."""
        self._stopped.set()

    async def run(self) -> None:
        """Returns when every request has ended, or soon after `stop`."""
        self._began_s = time.perf_counter()
        for number, arrival in enumerate(self._arrivals):
            asked = self._make(arrival)  # beforehand: it takes longer than to send
            if await self._is_stopped_until(self._began_s + arrival.at_s):
                break
            self._send(asked, number, self._began_s + arrival.at_s)
        await self._settle()
        self._ended_s = time.perf_counter()

    async def _is_stopped_until(self, due_s: float) -> bool:
        """Waits for the time; whether it was stopped instead."""
        if (wait_s := due_s - time.perf_counter()) <= 0:
            await asyncio.sleep(0)  # those under way go on, however late we are
            return self._stopped.is_set()
        try:
            async with asyncio.timeout(wait_s):
                return await self._stopped.wait()
        except TimeoutError:
            return False

    def _send(self, asked: Asked, number: int, due_s: float) -> None:
        if self.open >= self._most_open:
            self._summary.unsent += 1
            return
        answer = Answer(asked, number, due_s - self._began_s)
        task = asyncio.create_task(self._ask(answer, due_s))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _ask(self, answer: Answer, due_s: float) -> None:
        answer.late_s = time.perf_counter() - due_s
        try:
            await self._client.ask(answer)
        finally:
            self._summary.add(answer)
            self._ended(answer)

    async def _settle(self) -> None:
        """Waits for what is under way, and breaks it off when stopped."""
        if not self._open:
            return
        ended = asyncio.ensure_future(asyncio.wait(self._open))
        stopped = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in (stopped, *self._open):
            task.cancel()
        await ended


def _most_open() -> int:
    """As many as this process may have connections; raises that as far as it is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = MOST_OPEN + _FILES_OF_OUR_OWN
    if hard != resource.RLIM_INFINITY:
        files = min(files, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return files - _FILES_OF_OUR_OWN
