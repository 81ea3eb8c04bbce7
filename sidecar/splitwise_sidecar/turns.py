"""Which of this process's threads go first when processors are short.

The kernel (Linux 6.12 and later) lets a thread say how long a turn it wants: one that asks for
short turns gets them sooner, and no larger part of a processor. Older kernels know niceness alone.
"""

import ctypes
import os
import platform
import threading
from struct import Struct
from typing import Any, Final

SHORT_TURN_NS: Final = 100_000
"""Of who answers calls: the shortest that the kernel takes, and longer than most answers."""

LONG_TURN_NS: Final = 10_000_000
"""Of who moves bytes, and loses its cache with each turn."""

NICENESS: Final = 5
"""Of who moves bytes. With two processors busy with it, a control call's P99 was 9 ms with it, and
12 without."""

_SCHED_SETATTR: Final = {"x86_64": 314, "aarch64": 274}.get(platform.machine())
_ATTRIBUTES: Final = Struct("<IIQiIQQQ")
"""`struct sched_attr`: size, policy, flags, nice, priority, turn in ns, two of other policies."""


def go_first() -> None:
    """This thread, and those that it starts, get short turns soon."""
    _ask(0, SHORT_TURN_NS)


def give_way() -> None:
    """Lets the others of this process go before this thread."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
    _ask(NICENESS, LONG_TURN_NS)


def _ask(nice: int, turn_ns: int) -> None:
    if _SCHED_SETATTR is None:
        return
    asked = _ATTRIBUTES.pack(_ATTRIBUTES.size, 0, 0, nice, 0, turn_ns, 0, 0)
    library: Any = ctypes.CDLL(None)
    library.syscall(_SCHED_SETATTR, 0, ctypes.c_char_p(asked), 0)
