"""How busy a worker is: its loop's part of the last seconds. Times come in as numbers."""

from collections import deque
from typing import Final

WINDOW_S: Final = 5.0
"""Long enough for a worker that reports once a second, and for a step of a long prompt."""

LEAST_APART_S: Final = 0.25


class BusyShare:
    """Follows one worker's counter of busy seconds; at most 21 readings are kept."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, float]] = deque()

    def note(self, busy_s: float, now_s: float) -> None:
        """Takes a reading. A counter that has fallen is another process's: all begins anew."""
        readings = self._readings
        if readings and busy_s < readings[-1][1]:
            readings.clear()
        if len(readings) > 1 and now_s - readings[-2][0] < LEAST_APART_S:
            readings.pop()  # many steps a second: the last of them says it all
        readings.append((now_s, busy_s))
        while len(readings) > 2 and readings[1][0] <= now_s - WINDOW_S:
            readings.popleft()

    @property
    def share(self) -> float:
        """From 0 to 1; 0 until there are two readings."""
        if len(self._readings) < 2:
            return 0.0
        (began_s, before_s), (now_s, busy_s) = self._readings[0], self._readings[-1]
        seconds = now_s - began_s
        return min(1.0, (busy_s - before_s) / seconds) if seconds > 0 else 0.0
