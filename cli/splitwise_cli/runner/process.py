"""Processes of containers and their hooks: a session of their own, and gone when the runner is."""

import asyncio
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import IO, Final

_PR_SET_PDEATHSIG: Final = 1
_LIBC: Final = ctypes.CDLL(None)


async def spawn(
    argv: Sequence[str], env: Mapping[str, str], output: IO[bytes] | int
) -> asyncio.subprocess.Process:
    """A running process that writes to `output`. Raises OSError when it cannot be started."""
    return await asyncio.create_subprocess_exec(
        *argv,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        preexec_fn=partial(die_with, os.getpid()),
    )


def signal_all(leader: int, number: signal.Signals) -> None:
    """Signals a process and all that it has started, as far as they still run."""
    with suppress(ProcessLookupError):
        os.killpg(leader, number)


def die_with(runner: int) -> None:
    """Ends this process when its parent `runner` does: one that is killed must leak nothing."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != runner:  # it ended before the line above could take effect
        os._exit(1)
