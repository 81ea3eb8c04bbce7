"""A fleet as the cluster scheduler sees it: columns of plain numbers; a worker is its row.

A decision asks whole columns at once, for what is said of a thousand workers one by one takes a
millisecond.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from splitwise_core.policy.roles import Role

NOWHERE: Final = -1
NOT_READY: Final = -1
"""The room of a worker that is to get nothing."""

Numbers = NDArray[Any]
"""A column of numbers of one kind."""

Rows = NDArray[np.intp]
"""Some workers, in ascending order unless said otherwise."""

NO_NUMBERS: Final[Numbers] = np.empty(0)

FEW: Final = 16
"""As many looks at a column of a thousand as take the time of sorting it."""

_LAST: Final = np.iinfo(np.int64).max


class Members:
    """Which worker is of which revision and role: other only when workers come or go.

    `revision`: equal where KV may move from one worker to the other, NOWHERE where a worker is no
    member. `revisions`: each that there is, in the order of their first workers.
    """

    def __init__(self, role: Numbers, revision: Numbers) -> None:
        self.role = role
        self.revision = revision
        self.revisions: list[int] = list(dict.fromkeys(revision[revision != NOWHERE].tolist()))
        self._rows: dict[tuple[int, ...], Rows] = {}
        self._numbers: dict[tuple[int, ...], frozenset[int]] = {}

    def rows(self, revision: int, *roles: int) -> Rows:
        """The workers of a revision and of some roles."""
        rows = self._rows.get((revision, *roles))
        if rows is None:
            its_own = (self.revision == revision) & np.isin(self.role, roles)
            rows = self._rows[revision, *roles] = its_own.nonzero()[0]
        return rows

    def numbers(self, number: Numbers, revision: int, *roles: int) -> Set[int]:
        """What workers of a revision and of some roles go by: `number` is a column of all members'.

        As theirs it stays the same until workers come or go.
        """
        numbers = self._numbers.get((revision, *roles))
        if numbers is None:
            rows = self.rows(revision, *roles)
            numbers = self._numbers[revision, *roles] = frozenset(number[rows].tolist())
        return numbers

    def roles(self, revision: int) -> list[Role]:
        """The roles that a revision has workers of."""
        return [role for role in Role if len(self.rows(revision, role))]


@dataclass(frozen=True, slots=True)
class FleetView:
    """What the router knows of its workers, as columns of one length; a worker is its row.

    `pending_prompt_tokens`: prompt tokens queued or being computed. `pending_tokens`: KV tokens of
    sequences that decode or wait to. `room_tokens`: those of the largest request that the worker
    can still admit, counting what this router has sent and the worker has not reported yet; 0 when
    it admits none, NOT_READY when it is to get nothing anyway. `borrowed`: has work of the other
    phase, or had until just now.
    """

    members: Members
    pending_prompt_tokens: Numbers
    pending_tokens: Numbers
    room_tokens: Numbers
    borrowed: Numbers

    def role(self, worker: int) -> int:
        """Which phases a worker's pool serves."""
        return int(self.members.role.item(worker))

    def with_room(self, rows: Rows, tokens: int) -> Rows:
        """Those of some workers that could reserve blocks for `tokens` now."""
        return rows.compress(self.room_tokens[rows] >= tokens)

    def least(self, rows: Rows, tokens: int, *keys: Numbers) -> int:
        """Of some workers the one with room for `tokens` whose first key is least.

        Of equal ones the next key decides, at last the row. NOWHERE when none has room.
        """
        best = _least(rows, keys)  # it nearly always has room, and nobody else need be asked
        if best == NOWHERE or self.room_tokens.item(best) >= tokens:
            return best
        return _least(self.with_room(rows, tokens), keys)

    def in_order(self, rows: Rows, tokens: int, key: Numbers) -> Iterator[int]:
        """Of some workers those with room for `tokens`, by a key of whole numbers, then by rows.

        One by one, for mostly only the first few are asked for: those cost a look at the column
        each, and the others are sorted.
        """
        room, values = self.room_tokens, key[rows]
        for _ in range(min(FEW, len(rows))):
            first = values.argmin()
            worker = rows.item(first)
            if room.item(worker) >= tokens:
                yield worker
            values[first] = _LAST
        if len(rows) > FEW:
            others = self.with_room(rows.compress(values < _LAST), tokens)
            yield from others[key[others].argsort(kind="stable")].tolist()

    def without(self, cached: Mapping[int, int]) -> "FleetView":
        """The fleet with queues that are shorter by so many tokens, by worker."""
        rows = np.fromiter(cached, np.intp, len(cached))
        tokens = np.fromiter(cached.values(), np.int64, len(cached))
        prompts, others = self.pending_prompt_tokens.copy(), self.pending_tokens.copy()
        prompts[rows] -= tokens
        others[rows] -= tokens
        return FleetView(self.members, prompts, others, self.room_tokens, self.borrowed)

    def has_ready(self, revision: int, *roles: int) -> bool:
        """Whether there is a ready worker of a revision and some roles."""
        return bool((self.room_tokens[self.members.rows(revision, *roles)] > NOT_READY).any())


def _least(rows: Rows, keys: Sequence[Numbers]) -> int:
    """The one of some workers whose keys are least; NOWHERE when there is none."""
    if not len(rows):
        return NOWHERE
    *first, last = keys
    for key in first:
        values = key[rows]
        rows = rows.compress(values == values.item(values.argmin()))
    return int(rows[last[rows].argmin()])
