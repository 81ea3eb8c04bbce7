"""Links between workers: what a transfer costs a request.

Pure: plain numbers in, a decision out. A worker goes by a number that only it has.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from splitwise_core.policy.fleet import NO_NUMBERS, Numbers
from splitwise_core.policy.link import Link, seen_s

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
