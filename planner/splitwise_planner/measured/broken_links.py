"""Links between machines that break and come back, in virtual time.

KV that is on its way over a broken link does not arrive: the prompt worker gives the transfer up,
and the router asks for the request anew, as it does when a machine is lost. From then on routers
know that the link fails, and use others as long as there are some; that it works again they hear
when it is measured next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import product
from typing import Final

import numpy as np

from splitwise_core.policy.link import Link
from splitwise_core.policy.links import NO_LINKS, LinkView, failing_of
from splitwise_planner.measured.failures import Faults

RETRY_S: Final = 5.0
"""Between two measurements of a link that fails, as routers have them made."""

FAILING: Final = Link(0.0, 0.0, failing=True)


class LinkChange(Enum):
    """What happens to a link."""

    BREAKS = auto()
    WORKS = auto()
    IS_MEASURED = auto()


@dataclass(frozen=True, slots=True)
class Break:
    """The link from a prompt machine to a token machine, each numbered in its own pool, does not
    work from `at_s` on, for `down_s`."""

    at_s: float
    prompt: int
    token: int
    down_s: float

    @property
    def works_s(self) -> float:
        """When it works again."""
        return self.at_s + self.down_s

    @property
    def changes(self) -> list[tuple[float, LinkChange]]:
        """What it means, in order of time."""
        return [
            (self.at_s, LinkChange.BREAKS),
            (self.works_s, LinkChange.WORKS),
            (self.works_s + RETRY_S, LinkChange.IS_MEASURED),
        ]


def breaks_of(
    faults: Faults, prompts: int, tokens: int, from_s: float, until_s: float
) -> Sequence[Break]:
    """The breaks of the links between so many machines that begin in a time, in order.

    Each link has draws of its own, so that a machine more changes nothing of the others.
    """
    found = [
        Break(at_s, prompt, token, faults.repair_s)
        for prompt, token in product(range(prompts), range(tokens))
        for at_s in faults.times(f"{prompt}/{token}", from_s, until_s)
    ]
    return sorted(found, key=lambda one: (one.at_s, one.prompt, one.token))


class Links:
    """The links between workers, of which a machine has `per_machine`, those of prompt machines
    first: which are broken, and which of these routers know of."""

    def __init__(self, prompts: int, tokens: int, per_machine: int) -> None:
        self.view = NO_LINKS
        self.lost = 0  # transfers
        self._first_token = prompts
        self._per_machine = per_machine
        self._numbers = np.arange(prompts + tokens)
        self._speeds = np.zeros(prompts + tokens)
        self._broken: set[tuple[int, int]] = set()
        self._failing: dict[int, dict[int, Link]] = {}

    def works(self, prompt: int, token: int) -> bool:
        """Whether KV that goes from one worker to another gets there."""
        return (prompt, token) not in self._broken

    def change(self, broken: Break, change: LinkChange) -> None:
        """Something happens to the link between two machines, which all their workers use."""
        size = self._per_machine
        prompts = range(broken.prompt * size, (broken.prompt + 1) * size)
        first = self._first_token + broken.token * size
        pairs = set(product(prompts, range(first, first + size)))
        if change is LinkChange.BREAKS:
            self._broken |= pairs
        elif change is LinkChange.WORKS:
            self._broken -= pairs
        else:
            for prompt, token in pairs - self._broken:
                self._failing.get(prompt, {}).pop(token, None)
            self._tell()

    def fails(self, prompt: int, token: int) -> None:
        """A transfer has failed, and routers know of it."""
        self.lost += 1
        self._failing.setdefault(prompt, {})[token] = FAILING
        self._tell()

    def _tell(self) -> None:
        known = {prompt: dict(to) for prompt, to in self._failing.items() if to}
        self.view = NO_LINKS
        if known:
            failing = failing_of(known)
            self.view = LinkView(self._numbers, self._speeds, known, failing=failing)
