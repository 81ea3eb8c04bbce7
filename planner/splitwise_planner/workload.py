"""Traces drawn from a trace: its sizes at another rate, as often as a search rolls the dice.

Drawn as by the generator that was released with the Splitwise paper: arrivals are a Poisson
process, prompt and output sizes are drawn each by itself. With its seed the same requests come out,
digit by digit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splitwise_planner.trace import Trace


@dataclass(frozen=True, slots=True)
class Workload:
    """Sizes to draw from, and for how many seconds requests arrive; `hours` are the sizes of each
    hour of a day, where they are known."""

    sizes: Trace
    duration_s: float
    hours: Sequence[Trace] = ()

    def at(self, rate: float, seed: int, hour: int | None = None) -> Trace:
        """Requests at `rate` per second, with the sizes of an hour or of all; same seed, same
        requests."""
        sizes = self.sizes if hour is None else self.hours[hour]
        drawn = int(1.3 * rate * self.duration_s + 1000)  # more than arrive, and part of the seed
        random = np.random.RandomState(seed)
        arrival_s = np.cumsum(random.standard_exponential(drawn) * (1.0 / rate))
        prompts = sizes.prompt_tokens[random.choice(len(sizes), drawn)]
        outputs = sizes.output_tokens[random.choice(len(sizes), drawn)]
        count = int(np.searchsorted(arrival_s, self.duration_s))
        return Trace(np.arange(count), arrival_s[:count], prompts[:count], outputs[:count])
