"""What the autoscaler was told and decided of late, for people and to be decided again."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from splitwise_core.policy.scaling import Counts, Decision, Pool, Reading
from splitwise_operator.store import Key

LAST: Final = 150
"""Looks of each cluster that are kept: five minutes, some 100 kB."""


@dataclass(frozen=True, slots=True)
class PoolLook:
    """A pool in one look. `decision` is None for one that others scale.

    `needed`: with fewer workers its load would make it grow, if bounds and windows allowed.
    `backlog_s`: of prompts, for each worker. `heard_s`: when its load was heard last. Each is None
    while it is not known.
    """

    counts: Counts
    reading: Reading | None
    decision: Decision | None
    needed: float | None = None
    backlog_s: float | None = None
    heard_s: float | None = None


def look_of(pool: Pool, reading: Reading | None, decision: Decision | None) -> PoolLook:
    """What there is to tell of a pool that was looked at; `reading` is None while it is silent."""
    readings, asked = pool.state.readings, pool.state.demand
    heard_s = readings[-1].at_s if readings else None
    if reading is None or decision is None:
        return PoolLook(pool.counts, reading, decision, heard_s=heard_s)
    needed = max((need.presses for need in asked.needs), default=0.0)
    backlog_s = asked.inputs.get("backlogSeconds")
    return PoolLook(pool.counts, reading, decision, needed, backlog_s, heard_s)


@dataclass(frozen=True, slots=True)
class Look:
    """A cluster at a moment of the operator's monotonic clock. `held`: requests at the routers."""

    at_s: float
    held: int
    pools: Mapping[str, PoolLook]


class Looks:
    """The last looks at each cluster. The event loop writes, the status page's thread reads."""

    def __init__(self) -> None:
        self._of: dict[Key, deque[Look]] = {}

    def add(self, key: Key, look: Look) -> None:
        """Keeps a look, and lets go of the oldest."""
        self._of.setdefault(key, deque(maxlen=LAST)).append(look)

    def newest(self, key: Key) -> Look | None:
        """The last look at a cluster. For any thread."""
        looks = self._of.get(key)
        return looks[-1] if looks else None

    def forget(self, key: Key) -> None:
        """The cluster is scaled no more."""
        self._of.pop(key, None)

    def page(self) -> bytes:
        """All of them as JSON: namespace/name -> looks, the newest last."""
        known = dict(self._of)  # copies are taken in one go: no other thread comes in between
        told = {
            "/".join(key): [asdict(look) for look in tuple(looks)] for key, looks in known.items()
        }
        return json.dumps(told).encode()
