"""From which prompt length on KV is pushed by layer: what the policy says to what was measured."""

from typing import Final

from splitwise_core.kv import KvGeometry
from splitwise_core.policy.handover import layerwise_min_tokens

WEIGHT: Final = 0.2
"""Of the newest measurement: five transfers say more than one, and an hour ago says nothing."""

MAX_PEERS: Final = 256
"""Links that are remembered; past it the one that was first met is forgotten."""


class Switchover:
    """Hears of every push and every layer; the engine's thread asks it."""

    def __init__(self, geometry: KvGeometry) -> None:
        self._geometry = geometry
        self._link_bytes_per_s: dict[str, float] = {}
        self._layer_cost_s = 0.0
        self.num_layers = geometry.num_layers
        self.min_tokens = 1.0
        """The answer to the last question; a gauge shows it."""

    def is_layerwise(self, peer: str, num_tokens: int) -> bool:
        """Whether this prompt's layers are told of one by one. A link nobody knows is tried so."""
        rate = self._link_bytes_per_s.get(peer, 0.0)
        token_bytes = self._geometry.sequence_bytes(1)
        self.min_tokens = layerwise_min_tokens(
            self.num_layers, token_bytes, rate, self._layer_cost_s
        )
        return num_tokens >= self.min_tokens

    def pushed(self, peer: str, kv_bytes: int, push_s: float) -> None:
        """The link to this peer worked for `push_s` to move so many bytes."""
        if push_s <= 0:
            return
        before = self._link_bytes_per_s.pop(peer, None)
        self._link_bytes_per_s[peer] = _blend(before, kv_bytes / push_s)
        if len(self._link_bytes_per_s) > MAX_PEERS:
            del self._link_bytes_per_s[next(iter(self._link_bytes_per_s))]

    def told(self, seconds: float) -> None:
        """The prompt waited so long to tell of one layer."""
        self._layer_cost_s = _blend(self._layer_cost_s or None, seconds)


def _blend(before: float | None, now: float) -> float:
    return now if before is None else before + WEIGHT * (now - before)
