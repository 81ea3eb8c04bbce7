"""The threads that move bytes, so that the event loop goes on answering.

A thread never outlives what asked for it: who is cancelled has the move stopped, and waits until
the thread has let go of the memory. That is what a fence rests on.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from splitwise_sidecar.moves import Move
from splitwise_sidecar.pool import Pool

T = TypeVar("T")

THREADS: Final = 4
"""More do not help: two cores' worth of copying fills the memory bus of most machines."""

SHARED_BY: Final = 2
"""Threads that one push may keep busy: memory is slower than two of them, and there are others."""

PATIENCE_MS: Final = 2
"""What a thread waits on a socket before it lets another connection have its turn."""

NICENESS: Final = 10
"""With two processors busy moving bytes a control call's P99 was 7.8 ms (tcp) and 10.6 ms (shm)
with it and SCHED_BATCH, and 10.4 and 12.5 ms with half of it alone; transfers were as fast. What
SCHED_BATCH says to `move.c` is that the thread has to take turns, with which it is 3 to 5 ms."""

AT_ONCE_BYTES: Final = 8 << 20
"""What the event loop moves itself, in 1 to 4 ms: a layer of 2,048 tokens of Llama-3. To wake a
thread for each layer hid 83 % of a transfer over tcp, on two busy processors, instead of 98 %."""


class Movers:
    """Runs calls of moves. To wake a thread costs as much as to copy a megabyte: the fewer, the
    better."""

    def __init__(self, niceness: int = NICENESS) -> None:
        self._threads = ThreadPoolExecutor(
            THREADS,
            thread_name_prefix="mover",
            initializer=_give_way,
            initargs=(niceness,),
        )

    async def run(self, moves: Sequence[Move], call: Callable[[], T], *pools: Pool) -> T:
        """What `call`, which is of these moves and uses these pools, returns or raises."""
        if self._are_short(moves):
            return call()
        for pool in pools:
            pool.enter()
        running = asyncio.get_running_loop().run_in_executor(self._threads, call)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            for move in moves:
                move.stop()
            while not running.done():
                await _whatever_comes(running)
            raise
        finally:
            for pool in pools:
                pool.leave()

    async def share(
        self, moves: Sequence[Move], call: Callable[[Move], object], *pools: Pool
    ) -> None:
        """Returns when `call` has ended for each of the moves, which threads share out."""
        shares = [moves[first::SHARED_BY] for first in range(min(SHARED_BY, len(moves)))]
        async with asyncio.TaskGroup() as group:
            for share in shares:
                group.create_task(self.run(share, partial(_each, call, share), *pools))

    def patience_ms(self, moves: Sequence[Move]) -> int:
        """What the next call of these moves may wait on a socket: nothing on the event loop."""
        return 0 if self._are_short(moves) else PATIENCE_MS

    @staticmethod
    def _are_short(moves: Sequence[Move]) -> bool:
        return sum(move.end - move.at for move in moves) <= AT_ONCE_BYTES

    def close(self) -> None:
        """Ends the threads, once nothing moves any more."""
        self._threads.shutdown()


def _each(call: Callable[[Move], object], moves: Sequence[Move]) -> None:
    for move in moves:
        call(move)


def _give_way(niceness: int) -> None:
    """Lets the event loop go first when processors are short, and never takes its turn from it."""
    thread = threading.get_native_id()
    os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, thread, niceness)


async def _whatever_comes(running: "asyncio.Future[T]") -> None:
    """Waits for the end, even when it is cancelled again: the memory is in use until then."""
    try:
        await asyncio.wait([running])
    except asyncio.CancelledError:
        return
