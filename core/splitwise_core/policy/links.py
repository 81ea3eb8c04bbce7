"""Links between workers: what a transfer costs a request, and which links to measure next.

Pure: plain numbers in, a decision out. A worker goes by a number that only it has.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from heapq import nsmallest
from typing import Final, NamedTuple

from splitwise_core.policy.fleet import NO_NUMBERS, Numbers
from splitwise_core.policy.link import Link, seen_s

PER_PERIOD: Final = 4
"""Links that one prompt worker measures in a period: the load grows with workers, not with pairs.
In a larger fleet the links take their turns, and real transfers measure those that are used."""


NOBODY: Final[frozenset[int]] = frozenset()


class Cost(NamedTuple):
    """What a pair costs, in the order in which it counts."""

    failing: bool
    tokens: float  # that wait before the request, its own transfer counted in
    seen_s: float  # of the transfer


@dataclass(frozen=True, slots=True)
class LinkView:
    """The links of a fleet: columns beside those of its `FleetView`, and what is known of pairs.

    `known[a][b]` is the link from worker number `a` to `b`, and `failing[a]` are those `b` whose
    link fails. `tokens_per_s`: prompt tokens that a worker computes in a second, 0 when that is not
    known. `token_bytes`: KV of one token.
    """

    number: Numbers
    tokens_per_s: Numbers
    known: Mapping[int, Mapping[int, Link]] = field(default_factory=dict)
    token_bytes: int = 0
    layers: int = 1
    failing: Mapping[int, AbstractSet[int]] = field(default_factory=dict)

    def of(self, prompt: int, token: int) -> Link | None:
        """The link between two workers of the fleet; None when nothing is known of it."""
        if prompt == token or not self.known:
            return None
        return self.known.get(self.number.item(prompt), {}).get(self.number.item(token))

    def reaches_any(self, prompt: int, numbers: AbstractSet[int]) -> bool:
        """Whether the prompt worker's links to some workers, of these numbers, do not all fail."""
        own = self.number.item(prompt)
        failing = self.failing.get(own, NOBODY)
        return not failing >= numbers or own in numbers

    def working(self, prompt: int, tokens: Iterable[int]) -> Iterable[int]:
        """Those of some token workers to which the prompt worker's link does not fail."""
        number = self.number
        failing = self.failing.get(number.item(prompt))
        if not failing:
            return tokens
        return (t for t in tokens if t == prompt or number.item(t) not in failing)

    def cost(self, prompt: int, token: int, prompt_tokens: int, waiting: int) -> Cost:
        """What the pair costs a prompt behind `waiting` tokens.

        A second of transfer counts as the tokens that the prompt worker would compute in it.
        """
        link = self.of(prompt, token)
        if link is None:
            return Cost(False, waiting, 0.0)
        if link.failing:
            return Cost(True, waiting, 0.0)
        speed = self.tokens_per_s.item(prompt)
        prompt_s = prompt_tokens / speed if speed > 0 else 0.0
        seen = seen_s(link, prompt_tokens * self.token_bytes, prompt_s, self.layers)
        return Cost(False, waiting + seen * speed, seen)


def failing_of(known: Mapping[int, Mapping[int, Link]]) -> dict[int, set[int]]:
    """`failing` of a view, where nobody keeps it beside `known`."""
    return {a: {b for b, link in to.items() if link.failing} for a, to in known.items()}


NO_LINKS: Final = LinkView(NO_NUMBERS, NO_NUMBERS)


def to_measure(
    age_s: Sequence[float], failing: Sequence[bool], period_s: float, retry_s: float, first: int
) -> list[int]:
    """The token workers to which one prompt worker should measure its link now, as indices.

    `age_s`: since each link was measured or asked for, infinity when never. `failing`: does not
    work, or has no rate yet. The oldest go first, and from `first` on where they are equally old,
    so that prompt workers begin with different token workers.
    """
    count = len(age_s)

    def turn(i: int) -> tuple[float, int]:
        return -age_s[i], (i - first) % count

    young = sum(age < period_s and not fails for age, fails in zip(age_s, failing))
    late = [i for i, fails in enumerate(failing) if age_s[i] >= period_s and not fails]
    broken = [i for i, fails in enumerate(failing) if age_s[i] >= retry_s and fails]
    return nsmallest(max(0, PER_PERIOD - young), late, turn) + nsmallest(1, broken, turn)
