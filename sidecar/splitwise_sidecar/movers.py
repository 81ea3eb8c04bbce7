"""The threads that move bytes, so that the event loop goes on answering.

A thread never outlives what asked for it: who is cancelled has the move stopped, and waits until
the thread has let go of the memory. That is what a fence rests on.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from splitwise_sidecar.moves import Move
from splitwise_sidecar.pool import Pool

T = TypeVar("T")

THREADS: Final = 4
"""More do not help: two cores' worth of copying fills the memory bus of most machines."""

PATIENCE_MS: Final = 2
"""What a thread waits on a socket before it lets another connection have its turn."""

AT_ONCE_BYTES: Final = 64 << 10
"""What takes less time than to hand it to a thread."""


class Movers:
    """Runs one call of a move at a time."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="mover")

    async def run(self, move: Move, call: Callable[[], T], *pools: Pool) -> T:
        """What `call`, which is one of the move's and uses these pools, returns or raises."""
        if self._is_short(move):
            return call()
        for pool in pools:
            pool.enter()
        running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            move.stop()
            while not running.done():
                await _whatever_comes(running)
            raise
        finally:
            for pool in pools:
                pool.leave()

    def patience_ms(self, move: Move) -> int:
        """What the next call of this move may wait on a socket: none on the event loop."""
        return 0 if self._is_short(move) else PATIENCE_MS

    @staticmethod
    def _is_short(move: Move) -> bool:
        return move.end - move.at <= AT_ONCE_BYTES

    def close(self) -> None:
        """Ends the threads, once nothing moves any more."""
        self._threads.shutdown()


async def _whatever_comes(running: "asyncio.Future[T]") -> None:
    """Waits for the end, even when it is cancelled again: the memory is in use until then."""
    try:
        await asyncio.wait([running])
    except asyncio.CancelledError:
        return
