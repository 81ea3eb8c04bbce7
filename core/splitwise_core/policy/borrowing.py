"""Whom a pool whose queue is too long borrows from the other one; see `mixing`."""

from splitwise_core.policy.fleet import NOWHERE, FleetView, Rows, least
from splitwise_core.policy.mixing import RETURN_SHARE


def lender(fleet: FleetView, fitting: Rows, queue_tokens: float, limit_tokens: int) -> int:
    """Whom of `fitting`, workers of the other phase, a pool borrows for a prompt; or NOWHERE.

    `queue_tokens` are in the pool's shortest queue. Above `limit_tokens` anybody may be borrowed
    whose own queue of prompts is shorter; above half of it, those that are borrowed already. Of
    these, one that is not crowded itself goes before one that would have to change.
    """
    borrowed, queue = fleet.borrowed, fleet.pending_prompt_tokens
    if queue_tokens <= RETURN_SHARE * limit_tokens:
        return NOWHERE
    if queue_tokens <= limit_tokens:
        fitting = fitting.compress(borrowed[fitting])
    fitting = fitting.compress(queue[fitting] < queue_tokens)
    calm = fitting.compress(queue[fitting] <= limit_tokens)
    some = calm if len(calm) else fitting
    there = some.compress(borrowed[some])
    return least(there if len(there) else some, queue, fleet.pending_tokens)
