"""What the tiny model has to know before anybody relies on its answers."""

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from splitwise_worker.tiny.network import Shape, Weights, hidden
from splitwise_worker.tiny.rows import IGNORED, Rows, all_series

SEED: Final = 1_000_003  # rows that training, with a seed of its own, does not see
LEAST_LOOKUPS: Final = 0.995
LOOKUP_ROWS: Final = ((32, 64), (16, 384), (12, 1024), (12, 1536))
"""Rows and tokens a row: some 300 questions of each length."""


@dataclass(frozen=True, slots=True)
class Marks:
    """Right answers as a share of all: of every series there is, and of the hardest lookups."""

    series: float
    lookups: float  # at the length that went worst

    @property
    def passed(self) -> bool:
        """Whether its answers can be relied on."""
        return self.series == 1 and self.lookups >= LEAST_LOOKUPS

    def __str__(self) -> str:
        return f"right: {self.series:.2%} of the series, {self.lookups:.2%} of the lookups"


def examine(weights: Weights, shape: Shape) -> Marks:
    """The marks of `weights`. Changes nothing."""
    with torch.inference_mode():
        series = _right(weights, shape, *all_series(shown=4, answers=6))
        days = _right(weights, shape, *all_series(shown=2, answers=5))
        rows = Rows(SEED)
        lookups = [_share(_right(weights, shape, *rows.lookups(*size))) for size in LOOKUP_ROWS]
    return Marks(_share(torch.cat((series, days))), min(lookups))


def _right(weights: Weights, shape: Shape, tokens: Tensor, targets: Tensor) -> Tensor:
    """Whether each answer is the likeliest token."""
    asked = targets != IGNORED
    states = hidden(weights, shape, tokens)[asked]
    logits = F.linear(states, weights["model.embed_tokens.weight"])
    return logits.argmax(-1) == targets[asked]


def _share(right: Tensor) -> float:
    return float(right.float().mean())
