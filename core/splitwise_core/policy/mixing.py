"""When one worker serves both phases of a request, though its pool is for one of them.

Borrowing is the paper's (Patel et al., ISCA 2024, section 4.2): a pool whose queue is too long, and
which the mixed pool cannot relieve, takes a machine of the other phase, until that one has drained.
What is borrowed serves both phases of a request, so that nothing is moved. Conditional
disaggregation is ours: a request stays on one worker where measured times say that it is cheaper
for all, or where its prompt is short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from splitwise_core.policy.roles import Role

OVERFLOW_TOKENS: Final = 8192
"""Pending tokens above which a pool overflows into the mixed pool, where nobody says otherwise, as
in the simulator that was released with the paper."""

SHORT_PROMPT_TOKENS: Final = 64
"""A prompt of which so many tokens are to be computed is computed where it is decoded, as long as
nothing is measured: it costs those that decode there little more than one step, and its transfer
would be nearly all latency."""

RETURN_SHARE: Final = 0.5
"""A worker that is borrowed is given more as long as the queue is above this part of the limit
above which others are borrowed: so that it does not come and go around one value."""

EVERY_ROLE: Final = (Role.PROMPT, Role.TOKEN, Role.MIXED)


class Disaggregation(StrEnum):
    """Whether the two phases of a request are given to two workers."""

    ALWAYS = "Always"
    AUTO = "Auto"
    NEVER = "Never"


@dataclass(frozen=True, slots=True)
class Mixing:
    """What a cluster allows. `borrowing`: workers may serve the other pool's phase."""

    borrowing: bool = False
    disaggregation: Disaggregation = Disaggregation.ALWAYS

    @property
    def whole_roles(self) -> Sequence[int]:
        """Roles of workers on which a request may stay because that is cheaper."""
        if self.borrowing or self.disaggregation is Disaggregation.NEVER:
            return EVERY_ROLE
        return Role.TOKEN, Role.MIXED


FIXED: Final = Mixing()
"""Each pool serves its own phase, and nothing else."""
