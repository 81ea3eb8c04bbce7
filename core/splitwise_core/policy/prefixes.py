"""Which workers have which beginnings of prompts, as far as one router knows: it sent them there.

It is a guess: a worker may have given the memory to others since, and other routers place too. A
wrong one costs what a placement without it would have cost, and is right again from then on,
because the worker computes what it lacks. Bounded, and without a clock.
"""

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Final

MAX_NAMES: Final = 1 << 17
"""Beginnings that are remembered: about 40 MB. The one that was not used for the longest goes
first."""

MAX_HOLDERS: Final = 32
"""Workers that are remembered for one beginning, those that got it last."""


ROUTED_TOKENS: Final = 16 << 10
"""Of a prompt, the beginning that routers look at: names of so many tokens take half a
millisecond."""


class PrefixIndex:
    """Names of blocks (`core.prefix`) and the numbers of workers that were sent them."""

    def __init__(self, max_names: int = MAX_NAMES) -> None:
        self._max_names = max_names
        self._holders: OrderedDict[Hashable, tuple[int, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._holders)

    def note(self, worker: int, names: Sequence[Hashable]) -> None:
        """The worker is sent a prompt that begins with these blocks."""
        for name in reversed(names):  # a beginning is forgotten after what follows it
            holders = self._holders.pop(name, ())
            if worker not in holders:
                holders = (*holders[1 - MAX_HOLDERS :], worker)
            self._holders[name] = holders
        while len(self._holders) > self._max_names:
            self._holders.popitem(last=False)

    def find(self, names: Sequence[Hashable]) -> dict[int, int]:
        """By worker: how many of the first blocks it may have. Changes nothing."""
        known: list[tuple[int, ...]] = []
        for name in names:
            if (holders := self._holders.get(name)) is None:
                break
            known.append(holders)
        found: dict[int, int] = {}
        for depth in range(len(known), 0, -1):
            for worker in known[depth - 1]:
                found.setdefault(worker, depth)
            if len(found) >= MAX_HOLDERS:
                break
        return found
