"""What the autoscaler was told and decided of late, for people and to be decided again."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from splitwise_core.policy.scaling import Counts, Decision, Reading
from splitwise_operator.store import Key

LAST: Final = 150
"""Looks of each cluster that are kept: five minutes, some 100 kB."""


@dataclass(frozen=True, slots=True)
class PoolLook:
    """A pool in one look. `decision` is None for one that others scale."""

    counts: Counts
    reading: Reading | None
    decision: Decision | None


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
