"""Whom a pool whose queue is too long borrows from the other one; see `mixing`."""

import numpy as np

from splitwise_core.policy.fleet import FleetView, Rows, least
from splitwise_core.policy.mixing import RETURN_SHARE


def lender(fleet: FleetView, fitting: Rows, queue_tokens: float, limit_tokens: int) -> int:
    """Whom of `fitting`, workers of the other phase, a pool borrows for a prompt; or NOWHERE.

    `queue_tokens` are in the pool's shortest queue. Above `limit_tokens` anybody may be borrowed
    whose own queue of prompts is shorter; above half of it, those that are borrowed already. Of
    these, one that is not crowded itself goes before one that would have to change.
    """
    queue, is_new = fleet.pending_prompt_tokens, ~fleet.borrowed
    limit = np.where(is_new, limit_tokens, RETURN_SHARE * limit_tokens)
    can_lend = fitting.compress(np.maximum(limit, queue)[fitting] < queue_tokens)
    return least(can_lend, 2 * (queue > limit_tokens) + is_new, queue, fleet.pending_tokens)
