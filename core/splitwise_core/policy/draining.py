"""What becomes of the work of a worker that is to end: work and time in, a fate out.

A worker that drains takes nothing new and has a bounded time. What ends soon stays; what would go
on for longer moves to a peer, with its KV, while there is time for it; what is left in the end
returns to its router, which computes it anew elsewhere from the tokens so far.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

SOON_S: Final = 2.0
"""A sequence that surely ends within it is not moved: the move, its KV pushed over a link that
others use, would spare the drain next to nothing."""


class Fate(StrEnum):
    """What becomes of a sequence."""

    STAYS = "stays"  # it ends where it is
    MOVES = "moves"  # a peer goes on with it
    RETURNS = "returns"  # its router begins it anew, from its tokens


def fate(most_left: int, token_s: float, left_s: float) -> Fate:
    """What should become of a sequence that decodes.

    `most_left` tokens may still come, each in `token_s` seconds (0: not known), and the worker has
    `left_s` seconds. Whether a sequence ends before its most tokens nobody knows: it counts as if
    it did not.
    """
    if left_s <= 0:
        return Fate.RETURNS
    ends_s = most_left * token_s
    return Fate.STAYS if 0 < ends_s <= min(SOON_S, left_s) else Fate.MOVES


def in_time(waiting_tokens: Sequence[int], tokens_per_s: float, left_s: float) -> int:
    """How many of the prompts that wait, the next one first, are computed within `left_s` seconds.

    The others return at once: elsewhere they begin sooner. A speed of 0 is not known, and holds
    for everything as long as there is time.
    """
    if left_s <= 0:
        return 0
    total = 0
    for count, tokens in enumerate(waiting_tokens):
        total += tokens
        if total > tokens_per_s * left_s > 0:
            return count
    return len(waiting_tokens)
