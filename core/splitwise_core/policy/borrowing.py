"""Whom a pool whose queue is too long borrows from the other one; see `mixing`."""

from splitwise_core.policy.fleet import NOWHERE, FleetView, Rows
from splitwise_core.policy.mixing import RETURN_SHARE


def lender(
    fleet: FleetView, rows: Rows, tokens: int, queue_tokens: float, limit_tokens: int
) -> int:
    """Whom of `rows`, workers of the other phase, a pool borrows for a prompt; or NOWHERE.

    It has room for `tokens`, those of the whole request. `queue_tokens` are in the pool's shortest
    queue. Above `limit_tokens` anybody may be borrowed whose own queue of prompts is shorter; above
    half of it, those that are borrowed already. Of these, one that is not crowded itself goes
    before one that would have to change.
    """
    if queue_tokens <= RETURN_SHARE * limit_tokens:
        return NOWHERE
    queue = fleet.pending_prompt_tokens
    borrowed = rows.compress(fleet.borrowed[rows])
    groups = [borrowed, rows] if queue_tokens > limit_tokens else [borrowed]
    firsts = [fleet.least(some, tokens, queue, fleet.pending_tokens) for some in groups]
    firsts = [first for first in firsts if first != NOWHERE and queue.item(first) < queue_tokens]
    calm = [first for first in firsts if queue.item(first) <= limit_tokens]
    return (calm or firsts or [NOWHERE])[0]
