"""From the monotonic clock, which all processes of a host share, to the time of day."""

import time
from collections.abc import Callable
from typing import Final

TRIES: Final = 3


def unix_offset_s(
    clock: Callable[[], float] = time.monotonic, unix_clock: Callable[[], float] = time.time
) -> float:
    """What makes seconds since 1970 of the monotonic clock's, at this moment.

    A thread may lose its turn between two readings: of some tries, the quickest counts.
    """
    readings = []
    for _ in range(TRIES):
        before_s = clock()
        now_unix_s = unix_clock()
        took_s = clock() - before_s
        readings.append((took_s, now_unix_s - before_s - took_s / 2))
    return min(readings)[1]
