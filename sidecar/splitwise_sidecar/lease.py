"""The life of one lease as a table: no socket, no clock, no memory.

A lease lets one transfer's bytes land in blocks that the token worker keeps for it. `NEXT` is all
that can happen; what it lacks is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final


class State(StrEnum):
    """Where a lease stands; the values are the metric's label."""

    OPEN = "open"  # the worker keeps the blocks; no peer has claimed them
    RESERVED = "reserved"
    ARRIVING = "arriving"
    CHECKING = "checking"
    VERIFIED = "verified"  # the blocks are the worker's, with KV in them
    FENCING = "fencing"  # late writes are being shut out
    ENDED = "ended"  # the blocks are the worker's, with nothing in them


class Event(StrEnum):
    """What can happen to a lease."""

    RESERVE = "reserve"
    CHUNK = "chunk"
    COMMIT = "commit"
    MATCH = "match"
    DAMAGE = "damage"
    RUIN = "ruin"  # damage after the last push that was allowed
    EXPIRE = "expire"
    ABORT = "abort"
    CLOSE = "close"
    FENCED = "fenced"


MAX_PUSHES: Final = 2
"""Bytes that arrive damaged twice say that the link is broken, not that it hiccuped."""

LIVE: Final = (State.OPEN, State.RESERVED, State.ARRIVING, State.CHECKING)
WRITABLE: Final = frozenset({State.RESERVED, State.ARRIVING})

NEXT: Final[Mapping[tuple[State, Event], State]] = {
    (State.OPEN, Event.RESERVE): State.RESERVED,
    (State.RESERVED, Event.RESERVE): State.RESERVED,  # the first answer may have been lost
    (State.RESERVED, Event.CHUNK): State.ARRIVING,
    (State.ARRIVING, Event.CHUNK): State.ARRIVING,
    (State.ARRIVING, Event.COMMIT): State.CHECKING,
    (State.CHECKING, Event.MATCH): State.VERIFIED,  # only now may the worker decode
    (State.CHECKING, Event.DAMAGE): State.ARRIVING,  # the damaged layers may come once more
    (State.CHECKING, Event.RUIN): State.FENCING,
    **{
        (state, event): State.FENCING
        for state in LIVE
        for event in (Event.EXPIRE, Event.ABORT, Event.CLOSE)
    },
    (State.FENCING, Event.FENCED): State.ENDED,  # only now may the blocks be reused
}


class StaleEpoch(Exception):
    """The caller speaks of a worker that was attached before the present one."""


class ProtocolViolation(Exception):
    """The event cannot happen in the lease's state."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One lease; `step` makes the next one."""

    id: str
    epoch: int
    state: State = State.OPEN
    pushes: int = 1

    def __post_init__(self) -> None:
        assert 1 <= self.pushes <= MAX_PUSHES


def step(lease: Lease, event: Event, epoch: int) -> Lease:
    """The lease after `event`. What `NEXT` lacks is refused, and the lease stays as it was."""
    if epoch != lease.epoch:
        raise StaleEpoch(f"transfer {lease.id}: epoch {epoch:x} is not {lease.epoch:x}")
    following = NEXT.get((lease.state, event))
    again = event is Event.DAMAGE
    if following is None or (again and lease.pushes == MAX_PUSHES):
        raise ProtocolViolation(f"transfer {lease.id}: {event} is not allowed in {lease.state}")
    return replace(lease, state=following, pushes=lease.pushes + again)
