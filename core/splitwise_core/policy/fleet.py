"""A fleet as the cluster scheduler sees it: columns of plain numbers; a worker is its row.

A decision asks whole columns at once, for what is said of a thousand workers one by one takes a
millisecond.
"""

from collections.abc import Iterator
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

    def rows(self, revision: int, *roles: int) -> Rows:
        """The workers of a revision and of some roles."""
        rows = self._rows.get((revision, *roles))
        if rows is None:
            its_own = (self.revision == revision) & np.isin(self.role, roles)
            rows = self._rows[revision, *roles] = its_own.nonzero()[0]
        return rows

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

    def room(self, revision: int, tokens: int, *roles: int) -> Rows:
        """Ready workers of a revision and some roles that could reserve blocks for `tokens` now."""
        rows = self.members.rows(revision, *roles)
        return rows.compress(self.room_tokens[rows] >= tokens) if len(rows) else rows

    def has_ready(self, revision: int, *roles: int) -> bool:
        """Whether there is a ready worker of a revision and some roles."""
        return bool((self.room_tokens[self.members.rows(revision, *roles)] > NOT_READY).any())


def least(rows: Rows, *keys: Numbers) -> int:
    """The one of some workers whose first key is least, of equal ones the next, at last its row.

    NOWHERE when there is none.
    """
    if not len(rows):
        return NOWHERE
    *first, last = keys
    for key in first:
        values = key[rows]
        rows = rows.compress(values == values.min())
    return int(rows[last[rows].argmin()])


def in_order(rows: Rows, key: Numbers) -> Iterator[int]:
    """Some workers by a key of whole numbers, where equal by their rows.

    One by one, for mostly only the first few are asked for: those cost a look at the column each,
    and the others are sorted.
    """
    values = key[rows]
    few = min(FEW, len(rows))
    for _ in range(few):
        first = int(values.argmin())
        yield rows.item(first)
        values[first] = _LAST
    yield from rows[values.argsort(kind="stable")[: len(rows) - few]].tolist()
