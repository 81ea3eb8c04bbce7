"""Who is next when many wait: priorities and fair shares, first come first served within them.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996) over tokens: each request gets a place
on a line of virtual time when it comes, behind the earlier ones of its own client. Virtual time
goes on by what is served, divided by the clients that wait, so all that wait share alike, whoever
sends more. A higher priority is a head start on that line and nothing more: whoever waits is
overtaken by a bounded amount of work, and never starves.
"""

from enum import IntEnum
from typing import Final

HEAD_START_TOKENS: Final = 1 << 16
"""What one step of priority is worth: 32 full batches of prompts, which is seconds of work."""

_PRUNE_ABOVE: Final = 256


class Priority(IntEnum):
    """How soon a client wants its answer, against others."""

    LOW = -1
    NORMAL = 0
    HIGH = 1


class FairOrder:
    """Ranks requests as they come: of those that wait, the lowest rank is next.

    Ranks of equal size are served in the order of their arrival. A clock is not needed.
    """

    def __init__(self) -> None:
        self._now = 0.0  # virtual, in tokens that one client could have been served
        self._ends: dict[tuple[int, int], float] = {}  # of the last request, by tenant and priority

    def rank(self, tenant: int, priority: int) -> float:
        """The place that a request would get now. Changes nothing."""
        return self._start(tenant, priority) - priority * HEAD_START_TOKENS

    def enter(self, tenant: int, priority: int, tokens: int) -> float:
        """The place of a request that begins to wait, and costs `tokens` tokens."""
        rank = self.rank(tenant, priority)
        self._ends[tenant, priority] = self._start(tenant, priority) + tokens
        return rank

    def withdraw(self, tenant: int, priority: int, tokens: int) -> None:
        """A request leaves with so many of its tokens unserved: its client is not charged them."""
        if (tenant, priority) in self._ends:
            self._ends[tenant, priority] -= tokens

    def _start(self, tenant: int, priority: int) -> float:
        return max(self._now, self._ends.get((tenant, priority), 0.0))

    def served(self, tokens: int, tenants: int) -> None:
        """So many tokens were served while so many clients, at least one, had requests here."""
        self._now += tokens / max(1, tenants)
        if len(self._ends) > _PRUNE_ABOVE:  # who is behind the time begins at it anyway
            self._ends = {key: end for key, end in self._ends.items() if end > self._now}
