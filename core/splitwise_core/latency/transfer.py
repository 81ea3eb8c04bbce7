"""How long KV takes over a link: what a message costs, and bytes by the speed of the link."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from splitwise_core.latency.least_squares import fitted
from splitwise_core.policy.link import Link


@dataclass(frozen=True, slots=True)
class TransferPoint:
    """One measured transfer."""

    kv_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TransferModel:
    """A link; `most_bytes` is the largest transfer that was measured."""

    latency_s: float
    bytes_per_s: float
    most_bytes: float = inf

    @property
    def link(self) -> Link:
        """As `policy.links` sees it."""
        return Link(self.latency_s, self.bytes_per_s, failing=False)

    def seconds(self, kv_bytes: float) -> float:
        """Of one transfer that has the link for itself."""
        return self.latency_s + kv_bytes / self.bytes_per_s

    def is_extrapolated(self, kv_bytes: float) -> bool:
        """Whether no transfer as large was measured."""
        return kv_bytes > self.most_bytes


def fit_transfer(points: Sequence[TransferPoint]) -> TransferModel | None:
    """The link of measured transfers; None where they do not tell its speed, such as one size."""
    rows = [(1.0, float(point.kv_bytes)) for point in points]
    if len({point.kv_bytes for point in points}) < 2:
        return None
    latency_s, byte_s = fitted(rows, [point.seconds for point in points])
    if latency_s < 0:
        latency_s, (byte_s,) = 0.0, fitted([row[1:] for row in rows], [p.seconds for p in points])
    if byte_s <= 0:
        return None
    return TransferModel(latency_s, 1 / byte_s, max(point.kv_bytes for point in points))
