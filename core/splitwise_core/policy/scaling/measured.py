"""How fast a pool's workers are, learnt from what they did. Pure: a record in, a record out.

What was measured is forgotten as more work is done, not as time goes by: after a quiet night a pool
still knows how fast it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from splitwise_core.policy.scaling.law import Slo
from splitwise_core.policy.scaling.signals import Reading, quantile, summed

HALF_PROMPT_S: Final = 30.0
"""Worker-seconds of prompts after which what was measured before counts half."""

HALF_STEPS: Final = 2000.0
"""Decoding steps after which what was measured before counts half."""

ALIKE: Final = 0.05
"""Batches whose sizes spread by less than this part of their mean do not tell what size costs."""

ENOUGH: Final = 20
"""Of fewer first tokens no percentile is taken."""

MOST_LATE: Final = 4.0
HALF_LATE_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a pool's workers; 0 while it is not.

    `prompt_tokens_per_s` and `prompt_s` are of one busy worker and of one prompt. A decoding step
    takes `step_base_s + step_slope_s * sequences`; the slope is None while steps were too much
    alike to tell. `step_spread`: the percentile of a step over its mean. `late`: how many times the
    target the first token took while the workers should have been enough.
    """

    tokens: float = 0.0
    seconds: float = 0.0
    prompts: float = 0.0
    weight: float = 0.0  # of the sums of the regression, in steps
    sum_x: float = 0.0
    sum_y: float = 0.0
    sum_xx: float = 0.0
    sum_xy: float = 0.0
    step_spread: float = 1.0
    late: float = 1.0

    @property
    def prompt_tokens_per_s(self) -> float:
        """Of one worker that is busy with prompts."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    @property
    def prompt_s(self) -> float:
        """Of one prompt, in the batches that there were."""
        return self.seconds / self.prompts if self.prompts > 0 else 0.0

    @property
    def step_slope_s(self) -> float | None:
        """Seconds that one sequence more adds to a step."""
        if self.weight <= 0:
            return None
        mean_x, mean_y = self.sum_x / self.weight, self.sum_y / self.weight
        variance = self.sum_xx / self.weight - mean_x**2
        if variance <= (ALIKE * mean_x) ** 2:
            return None
        return max(0.0, (self.sum_xy / self.weight - mean_x * mean_y) / variance)

    @property
    def step_base_s(self) -> float:
        """Seconds of a step beyond what its sequences add."""
        if self.weight <= 0:
            return 0.0
        slope = self.step_slope_s or 0.0
        return max(0.0, (self.sum_y - slope * self.sum_x) / self.weight)


def learn(known: Measured, now: Reading) -> Measured:
    """`known` with what came about since the look before."""
    kept = 0.5 ** (now.prompt_s / HALF_PROMPT_S)
    known = replace(
        known,
        tokens=known.tokens * kept + now.prompt_tokens,
        seconds=known.seconds * kept + now.prompt_s,
        prompts=known.prompts * kept + now.prompts,
    )
    if now.steps <= 0:
        return known
    kept = 0.5 ** (now.steps / HALF_STEPS)
    x, y = now.step_tokens / now.steps, now.step_s / now.steps
    return replace(
        known,
        weight=known.weight * kept + now.steps,
        sum_x=known.sum_x * kept + now.steps * x,
        sum_y=known.sum_y * kept + now.steps * y,
        sum_xx=known.sum_xx * kept + now.steps * x * x,
        sum_xy=known.sum_xy * kept + now.steps * x * y,
    )


def correct(known: Measured, readings: Sequence[Reading], slo: Slo, is_enough: bool) -> Measured:
    """`known` with what the percentiles were over the readings.

    First tokens count only while the workers `is_enough` of the model: what comes late because
    there are too few of them says nothing of the model.
    """
    tbt = summed(one.tbt_counts for one in readings)
    steps = sum(one.steps for one in readings)
    if sum(tbt) >= ENOUGH and steps > 0:
        mean_s = sum(one.step_s for one in readings) / steps
        spread = quantile(tbt, slo.percentile) / mean_s if mean_s > 0 else 1.0
        known = replace(known, step_spread=max(1.0, spread))
    faded = 1 + (known.late - 1) * 0.5 ** (readings[-1].seconds / HALF_LATE_S)
    ttft = summed(one.ttft_counts for one in readings)
    if is_enough and sum(ttft) >= ENOUGH:
        faded = max(faded, quantile(ttft, slo.percentile) / slo.ttft_s)
    return replace(known, late=min(max(faded, 1.0), MOST_LATE))
