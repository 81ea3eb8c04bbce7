"""How long one step of decoding takes: a + b n + c ctx, for n sequences with ctx tokens in all.

The weights are read once, whatever is in the batch (a); each sequence costs its own share of the
rest of the layers (b) and the reading of its KV (c).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from splitwise_core.latency.least_squares import fitted


@dataclass(frozen=True, slots=True)
class DecodePoint:
    """One measurement: the mean step of so many sequences, `context` tokens in all of them."""

    sequences: int
    context: float
    seconds: float


@dataclass(frozen=True, slots=True)
class DecodeModel:
    """Seconds of steps; measured up to `most_sequences`, and up to `most_context` tokens in all."""

    step_s: float  # of a step that is empty
    sequence_s: float
    token_s: float  # of a token of context
    most_sequences: int
    most_context: float

    def seconds(self, sequences: int, context: float) -> float:
        """Of one step."""
        return self.step_s + self.sequence_s * sequences + self.token_s * context

    def seconds_of(self, steps: int, sequences: int, context: float) -> float:
        """Of so many steps one after the other, the first with `context` tokens: each sequence is
        a token longer after each."""
        growth = sequences * steps * (steps - 1) / 2
        return steps * self.seconds(sequences, context) + self.token_s * growth

    def is_extrapolated(self, sequences: int, context: float) -> bool:
        """Whether no batch as large was measured."""
        return sequences > self.most_sequences or context > self.most_context


def fit_decode(points: Sequence[DecodePoint]) -> DecodeModel:
    """The model of measured points. Where they say nothing of a coefficient, or that more work
    takes less time, that coefficient is 0."""
    left = [0, 1, 2]
    while True:
        rows = [[(1.0, p.sequences, p.context)[i] for i in left] for p in points]
        found = dict(zip(left, fitted(rows, [p.seconds for p in points])))
        if min(found.values()) >= 0:
            break
        left.remove(min(left, key=lambda i: found[i]))
    return DecodeModel(
        step_s=found.get(0, 0.0),
        sequence_s=found.get(1, 0.0),
        token_s=found.get(2, 0.0),
        most_sequences=max(p.sequences for p in points),
        most_context=max(p.context for p in points),
    )
