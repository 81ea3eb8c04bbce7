"""The cheapest pair of machine counts that is good enough, found with few trials.

Pure: a trial is a function that is handed in. More machines are taken to be no worse, but only
where a cluster fails clearly; near its limit, where one machine more may by chance be worse, each
pair is tried by itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import floor, inf
from sys import maxsize
from typing import Final, NamedTuple

CLEARLY: Final = 1.05
"""Load from which on a pair that fails stands for all smaller ones."""

FIRST_SPLITS: Final = 5
"""Splits of a size that are tried while a first good pair is looked for."""

LAST_SPLITS: Final = 64
"""Splits at the edge of the budgets that are tried before it is said that none is good."""

_EPSILON: Final = 1e-9  # of a count: what rounding may take from a sum of prices

_LESS: Final = 1 - 1e-6  # of a price: less than the digits of any


class Pair(NamedTuple):
    """Machines that compute prompts alone, and the others."""

    prompt: int
    other: int


class Limit(NamedTuple):
    """What a machine of each kind adds to a sum, and the most that the sum may be."""

    prompt: float
    other: float
    most: float = inf

    def sum_of(self, pair: Pair) -> float:
        """The sum for a pair."""
        return self.prompt * pair.prompt + self.other * pair.other

    def others(self, prompt: int) -> float:
        """The most other machines beside `prompt` of them; below zero when those are too many."""
        count = (self.most - self.prompt * prompt) / self.other
        return count if count == inf else floor(count + _EPSILON)


@dataclass(slots=True)
class Search:
    """The search for one kind of design.

    `load` tries a pair: below 1 it is good. `goal` is the sum to make small, `budgets` bound others
    and leave a finite number of pairs. A design that does not split has no machines for prompts
    alone. `within`, where it is given, is a pair that is thought good: it is tried first, and none
    with more machines of either kind is looked at. `tried` has the load of each pair that was
    tried.
    """

    load: Callable[[Pair], float]
    goal: Limit
    budgets: Sequence[Limit]
    splits: bool
    within: Pair | None = None
    tried: dict[Pair, float] = field(default_factory=dict)

    def best(self) -> Pair | None:
        """The good pair with the least sum; None when none is good within the budgets."""
        found = self._first()
        failed = 0.0  # all pairs with sums up to here fail
        while found is not None:
            price = self.goal.sum_of(found)
            below = price * _LESS
            if not self._undecided(below):
                break
            middle = (failed + price) / 2
            bound = middle if self._undecided(middle) else below
            better = self._good(bound, found)
            if better is None:
                failed = bound
            else:
                found = better
        return found

    def _first(self) -> Pair | None:
        """Some good pair: a few splits of ever larger clusters, then more of the largest."""
        if self.within is not None and self._try(self.within) < 1:
            return self.within
        largest = self._undecided(inf)
        bound = 4 * max(self.goal.prompt, self.goal.other)
        while (pairs := self._undecided(bound)) != largest:
            for pair in _spread(pairs, FIRST_SPLITS):
                if self._try(pair) < 1:
                    return pair
            bound *= 2
            largest = self._undecided(inf)
        good = (pair for pair in _spread(largest, LAST_SPLITS) if self._try(pair) < 1)
        return next(good, None)

    def _good(self, bound: float, near: Pair) -> Pair | None:
        """A good pair with a sum up to `bound`, those split as `near` being tried first."""
        share = near.prompt / sum(near)
        while pairs := self._undecided(bound):
            for pair in sorted(pairs, key=lambda p: abs(p.prompt / sum(p) - share)):
                if not self._is_hopeless(pair) and self._try(pair) < 1:
                    return pair
        return None

    def _undecided(self, bound: float) -> list[Pair]:
        """For each number of prompt machines the largest pair with a sum up to `bound` that may be
        good: when none is left, all pairs up to there fail."""
        limits = (*self.budgets, self.goal._replace(most=bound))
        return [pair for row in self._rows(limits) if (pair := self._largest(row)) is not None]

    def _rows(self, limits: Sequence[Limit]) -> Iterator[Pair]:
        """For each number of prompt machines, the most others that the limits allow."""
        most = self.within or Pair(maxsize, maxsize)
        prompt = 1 if self.splits else 0
        while (others := min(limit.others(prompt) for limit in limits)) >= 1:
            yield Pair(prompt, min(int(others), most.other))
            if not self.splits or prompt >= most.prompt:
                break
            prompt += 1

    def _largest(self, pair: Pair) -> Pair | None:
        """The pair, or the next smaller one, that has not been tried; None when it is hopeless."""
        while pair.other >= 1 and not self._is_hopeless(pair):
            if self.tried.get(pair, 0.0) < 1:
                return pair
            pair = pair._replace(other=pair.other - 1)
        return None

    def _is_hopeless(self, pair: Pair) -> bool:
        """Whether a pair at least as large is known to fail clearly."""
        return any(
            load >= CLEARLY and known.prompt >= pair.prompt and known.other >= pair.other
            for known, load in self.tried.items()
        )

    def _try(self, pair: Pair) -> float:
        if pair not in self.tried:
            self.tried[pair] = self.load(pair)
        return self.tried[pair]


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """At most `count` of the pairs, from the middle outwards, evenly."""
    if len(pairs) <= count:
        chosen = list(pairs)
    else:
        chosen = [pairs[(2 * i + 1) * len(pairs) // (2 * count)] for i in range(count)]
    middle = len(chosen) // 2
    return sorted(chosen, key=lambda pair: abs(chosen.index(pair) - middle))
