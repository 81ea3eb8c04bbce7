"""How long a batch of prompts takes.

A line with a knee says what lies beyond and between the sizes that were measured, and by what each
measured size differs from it goes along between sizes: prompt times of real machines are neither a
line nor smooth (those published with the Splitwise paper more than double from 2,048 to 4,096
tokens), but their distance from the line changes slowly.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import log
from statistics import median
from typing import Final

from splitwise_core.latency.least_squares import fitted
from splitwise_core.policy.batching import PROMPT_BATCH_TOKENS

KNEE_TOKENS: Final = PROMPT_BATCH_TOKENS
"""Where prefill throughput falls (Patel et al., ISCA 2024, section 4.3). On the times published
with it, a knee that the fit chooses, or a second one at 16,384, foretold sizes left out worse."""

FLOOR_S: Final = 1e-6
"""No batch takes less, whatever a fit says beyond what was measured."""


@dataclass(frozen=True, slots=True)
class PromptPoint:
    """One measurement of a batch: `tokens` in all, of prompts of `length` tokens each."""

    tokens: int
    length: float
    seconds: float


Curve = tuple[tuple[float, float], ...]
"""Points of (logarithm of a prompt's length, ratio), by length."""


@dataclass(frozen=True)
class PromptModel:
    """Seconds of a batch of prompts: (a + b k + c max(k - knee, 0)) times the ratio of its size.

    `line` is a, b and c with k in thousands of tokens; `sizes` were measured, and `curves` has the
    ratios of each. `attention_s` is what a thousand tokens take to attend to a thousand, where only
    single prompts were measured: a batch of shorter ones is spared some of that.
    """

    line: tuple[float, float, float]
    sizes: tuple[int, ...]
    curves: tuple[Curve, ...]
    attention_s: float = 0.0

    def seconds(self, tokens: int, length: float) -> float:
        """Of a batch of so many tokens, in prompts of `length` tokens, their mean weighted by the
        tokens of each."""
        ratio = self._ratio(log(max(tokens, 1)), log(max(length, 1.0)))
        return max(FLOOR_S, self._on_line(tokens) * ratio - self._spared_s(tokens, length))

    def is_extrapolated(self, tokens: int) -> bool:
        """Whether no batch as small, or as large, was measured."""
        return not self.sizes[0] <= tokens <= self.sizes[-1]

    def _spared_s(self, tokens: int, length: float) -> float:
        """What prompts of `length` do not attend to, of one as long as all of them. Beyond the
        longest that was measured, times go on as if prompts were as long as that."""
        fewer = max(0.0, min(tokens, self.sizes[-1]) - length)
        return self.attention_s * tokens * fewer / 1e6

    def _on_line(self, tokens: int) -> float:
        return sum(a * x for a, x in zip(self.line, _terms(tokens)))

    @cached_property
    def _logs(self) -> list[float]:
        return [log(size) for size in self.sizes]

    def _ratio(self, size: float, length: float) -> float:
        """The ratio between the two sizes that are next; beyond all, that of the last."""
        place = bisect_left(self._logs, size)
        if place == 0:
            return _on_curve(self.curves[0], length)
        if place == len(self._logs):
            return _on_curve(self.curves[-1], length)
        left, right = self._logs[place - 1], self._logs[place]
        share = (size - left) / (right - left)
        below, above = self.curves[place - 1], self.curves[place]
        return (1 - share) * _on_curve(below, length) + share * _on_curve(above, length)


def fit_prompt(points: Sequence[PromptPoint]) -> PromptModel:
    """The model of measured points; of repeats their median. Two sizes are needed at least."""
    shapes: dict[tuple[int, float], list[float]] = {}
    for point in points:
        shapes.setdefault((point.tokens, point.length), []).append(point.seconds)
    known = {shape: median(seconds) for shape, seconds in sorted(shapes.items())}
    sizes = sorted({tokens for tokens, _ in known})
    assert len(sizes) > 1, "one size says nothing of others"
    a, b, c = fitted([_terms(tokens) for tokens, _ in known], list(known.values()))
    bare = PromptModel((a, b, c), (sizes[0],), (((0.0, 1.0),),))
    curves = tuple(
        tuple(
            (log(length), seconds / max(bare._on_line(size), FLOOR_S))
            for (tokens, length), seconds in known.items()
            if tokens == size
        )
        for size in sizes
    )
    tells = len(sizes) > 2 and all(tokens == length for tokens, length in known)
    attention_s = _attention_s(known) if tells else 0.0
    return PromptModel((a, b, c), tuple(sizes), curves, attention_s)


def _attention_s(known: Mapping[tuple[int, float], float]) -> float:
    """How the seconds of single prompts grow with the square of their thousands of tokens; 0 where
    they do not."""
    rows = [(1.0, tokens / 1000, (tokens / 1000) ** 2) for tokens, _ in known]
    return max(0.0, fitted(rows, list(known.values()))[2])


def _terms(tokens: int) -> tuple[float, float, float]:
    """What the line adds up for a size."""
    return 1.0, tokens / 1000, max(tokens - KNEE_TOKENS, 0) / 1000


def _on_curve(curve: Curve, length: float) -> float:
    """The ratio at a length; beyond those measured that of the nearest."""
    if length <= curve[0][0]:
        return curve[0][1]
    for (left, low), (right, high) in pairwise(curve):
        if length <= right:
            return low + (high - low) * (length - left) / (right - left)
    return curve[-1][1]
