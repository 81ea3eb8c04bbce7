"""Counts who was refused at the gRPC door, which gRPC itself tells nobody.

It does tell when a handshake begins, and a call tells that one has succeeded: our peers open a
connection for a call alone. So handshakes that no call has followed for a while were refused, or
given up. Which ones they were is not known, only how many.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

PATIENCE_S: Final = 5.0
"""A call follows the handshake of a peer sooner; one that is later is counted as refused."""

FORGET_S: Final = 600.0
"""A connection that was silent for so long is taken for another when it speaks again."""

MAX_KEPT: Final = 1 << 16
"""Handshakes, and connections, that are kept in mind; only counts are lost above it."""


class Handshakes:
    """Moments are of a monotonic clock. `begun` may be called by any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._begun: deque[float] = deque(maxlen=MAX_KEPT)
        self._heard: OrderedDict[str, float] = OrderedDict()

    def begun(self) -> None:
        """Somebody has connected."""
        self._begun.append(self._clock())

    def heard(self, peer: str) -> bool:
        """A call came from a connection, told by its address; whether it is the first one."""
        is_first = self._heard.pop(peer, None) is None
        if is_first and self._begun:
            self._begun.popleft()
        self._heard[peer] = self._clock()
        return is_first

    def refused(self) -> int:
        """How many more have connected and were not let in; each is told once."""
        now, count = self._clock(), 0
        while self._begun and self._begun[0] <= now - PATIENCE_S:
            self._begun.popleft()
            count += 1
        while self._heard and (
            len(self._heard) > MAX_KEPT or next(iter(self._heard.values())) <= now - FORGET_S
        ):
            self._heard.popitem(last=False)
        return count
