"""What the router tells people of its sessions."""

import time
from collections.abc import Iterable
from typing import Any

from splitwise_router.session import Session


def duties(sessions: Iterable[Session]) -> list[dict[str, Any]]:
    """Connected workers by name, and which of them serve the other pool's phase too.

    `borrowedSeconds` is None where a worker does not; `misplaced` proposes to move a replica of its
    pool to the other one.
    """
    now_s = time.monotonic()
    return [
        {
            "pod": session.endpoint.pod,
            "pool": session.endpoint.pool,
            "role": session.endpoint.role,
            "borrowedSeconds": since_s and round(now_s - since_s, 1),
            "misplaced": session.load.should_change,
        }
        for session in sorted(sessions, key=lambda session: session.endpoint.pod)
        if session.info is not None
        for since_s in [session.borrowed_s]
    ]
