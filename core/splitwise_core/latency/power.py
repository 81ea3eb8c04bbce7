"""What a GPU draws in each phase, and what a cap on its power costs.

Prefill computes all the time and draws what the GPU may; decoding waits for memory, draws less and
hardly slows under a cap (Patel et al., ISCA 2024).
"""

from dataclasses import dataclass
from typing import Final

CAPPED_SHARE: Final = 0.5
CAPPED_PROMPT_SLOWDOWN: Final = 1.3
"""An H100 at half its power computes prompts 1.3 times as long, and decodes as fast: splitwise-sim
8f99e7d, data/perf_model.csv, where each time of h100-80gb-pcap is that of h100-80gb times this."""

LEAST_SHARE: Final = CAPPED_SHARE
"""Of a lower cap nothing was measured."""


@dataclass(frozen=True, slots=True)
class PowerModel:
    """Watts of one GPU, or of some together, by what it does."""

    idle_w: float
    prompt_w: float
    token_w: float

    def capped(self, share: float) -> "PowerModel":
        """With a cap at this share of what prompts draw, from `LEAST_SHARE` to 1."""
        assert LEAST_SHARE <= share <= 1, share
        cap_w = share * self.prompt_w
        return PowerModel(min(self.idle_w, cap_w), cap_w, min(self.token_w, cap_w))

    def joules(self, prompt_s: float, token_s: float, idle_s: float) -> float:
        """What it uses in so many seconds of each."""
        return self.prompt_w * prompt_s + self.token_w * token_s + self.idle_w * idle_s


def prompt_slowdown(share: float) -> float:
    """By how much prompts take longer under a cap: between no cap and the one that was measured,
    the speed goes down with the cap."""
    capped = (1 - share) / (1 - CAPPED_SHARE)
    return 1 / (1 - capped * (1 - 1 / CAPPED_PROMPT_SLOWDOWN))
