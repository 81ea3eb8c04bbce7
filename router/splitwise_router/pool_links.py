"""Links by pairs of pools: what /transfer says, and the metrics. No worker's address is in either.

An entry has the form of `status.transfer` of the SplitwiseCluster: the operator and `splitwise
status` repeat it.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import nan
from statistics import median
from time import time
from typing import Any, Final

from splitwise_core.metrics.router import (
    CUT_OFF_WORKERS,
    LINK_AGE,
    LINK_LATENCY,
    LINK_RATE,
    LINKS,
)
from splitwise_core.rpc import kv_pb2
from splitwise_core.telemetry import Telemetry
from splitwise_router.links import Links, pairs
from splitwise_router.session import Session

NONE: Final = "none"
DIGITS: Final = 3
"""More of a measured time would be noise."""


@dataclass(slots=True)
class PoolPair:
    """All links from the workers of one pool to those of another."""

    source: str
    target: str
    pairs: int = 0
    links: list[kv_pb2.Link] = field(default_factory=list)
    reason: str = ""  # of the first that fails, with the pods' names

    @property
    def working(self) -> list[kv_pb2.Link]:
        """Links over which KV has got there."""
        return [link for link in self.links if link.outcome == kv_pb2.OK]

    @property
    def transport(self) -> str:
        """The one that most links use."""
        used = Counter(link.transport for link in self.working)
        return used.most_common(1)[0][0] if used else NONE

    @property
    def bytes_per_s(self) -> float:
        """Of the middle one of the links that have a rate; 0 when there is none."""
        return median([link.bytes_per_s for link in self.working if link.bytes_per_s > 0] or [0.0])

    @property
    def latency_s(self) -> float:
        """Of the middle one of the links that work."""
        return median([link.latency_s for link in self.working] or [0.0])

    @property
    def measured_unix_s(self) -> float:
        """When one of them was measured last."""
        return max(link.measured_unix_ms for link in self.links) / 1000

    def entry(self) -> dict[str, Any]:
        """As JSON has it."""
        made: dict[str, Any] = {
            "from": self.source,
            "to": self.target,
            "transport": self.transport,
            "bytesPerSecond": int(_rounded(self.bytes_per_s)),
            "latencySeconds": _rounded(self.latency_s),
            "measuredAt": datetime.fromtimestamp(self.measured_unix_s, UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "pairs": self.pairs,
            "measured": len(self.links),
            "failing": len(self.links) - len(self.working),
        }
        return made | {"reason": self.reason} if self.reason else made


def by_pools(sessions: Collection[Session], links: Links) -> list[PoolPair]:
    """Every pair of pools between which KV may go, in order of their names."""
    made: dict[tuple[str, str], PoolPair] = {}
    for prompt, token in pairs(sessions):
        key = prompt.endpoint.pool, token.endpoint.pool
        pair = made.setdefault(key, PoolPair(*key))
        pair.pairs += 1
        link = links.link(prompt, token)
        if link is None:
            continue
        pair.links.append(link)
        if link.outcome != kv_pb2.OK and not pair.reason:
            why = kv_pb2.Outcome.Name(link.outcome).lower()
            pair.reason = f"{prompt.endpoint.pod} to {token.endpoint.pod}: {why}"
    return [made[key] for key in sorted(made)]


class LinkMetrics:
    """Shows the links of pairs of pools; what is no more shows no value."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._shown: set[tuple[str, str, str]] = set()
        self._cut_off: set[tuple[str, str]] = set()

    def show(self, shown: Collection[PoolPair], cut_off: Collection[Session]) -> None:
        """Sets the gauges for a scrape."""
        gauge, now_s = self._telemetry.gauge, time()
        for source, target, transport in self._shown:
            labels = {"from_pool": source, "to_pool": target}
            gauge(LINK_RATE, transport=transport, **labels).set(nan)
            gauge(LINK_LATENCY, transport=transport, **labels).set(nan)
            gauge(LINK_AGE, **labels).set(nan)
            for state in ("working", "failing", "unknown"):
                gauge(LINKS, state=state, **labels).set(0)
        self._shown = {(pair.source, pair.target, pair.transport) for pair in shown}
        for pair in shown:
            labels = {"from_pool": pair.source, "to_pool": pair.target}
            working, known = len(pair.working), len(pair.links)
            gauge(LINKS, state="working", **labels).set(working)
            gauge(LINKS, state="failing", **labels).set(known - working)
            gauge(LINKS, state="unknown", **labels).set(pair.pairs - known)
            if known:
                gauge(LINK_AGE, **labels).set(max(0.0, now_s - pair.measured_unix_s))
            if working:
                gauge(LINK_RATE, transport=pair.transport, **labels).set(pair.bytes_per_s)
                gauge(LINK_LATENCY, transport=pair.transport, **labels).set(pair.latency_s)
        self._show_cut_off(cut_off)

    def _show_cut_off(self, sessions: Collection[Session]) -> None:
        counts = Counter((s.endpoint.role, s.endpoint.pool) for s in sessions)
        for role, pool in self._cut_off | set(counts):
            gauge = self._telemetry.gauge(CUT_OFF_WORKERS, role=role, pool=pool)
            gauge.set(counts[role, pool])
        self._cut_off |= set(counts)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
