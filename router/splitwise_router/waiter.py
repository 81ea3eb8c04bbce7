"""A request that waits for room."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from splitwise_core.policy.admission import Waiting
from splitwise_core.policy.routing import Reason
from splitwise_router.attempt import Attempt
from splitwise_router.generation import Generation
from splitwise_router.session import Session


@dataclass(slots=True, eq=False)
class Waiter:
    """One of the queue; `attempt` is what it waits for."""

    generation: Generation
    avoid: Collection[Session]
    avoid_until_s: float
    attempt: asyncio.Future[Attempt]
    why_not: Reason
    rank: float
    share: Waiting

    @property
    def is_retry(self) -> bool:
        """Whether it has begun before, and is not turned away."""
        return self.share.stays

    @property
    def waits_for_its_own(self) -> bool:
        """Whether it only lacks workers of the revision it began on: that holds nobody else up."""
        return self.generation.revision is not None and self.why_not is not Reason.NO_CAPACITY


def share_of(generation: Generation) -> tuple[int, int, int]:
    """Whose share of the fleet a generation takes, with which priority, and how many tokens."""
    tokens = generation.to_prefill + generation.to_generate
    return generation.asked_by.tenant, generation.asked_by.priority, tokens
