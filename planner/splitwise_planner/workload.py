"""Traces drawn from a trace: its sizes at another rate, as often as a search rolls the dice.

Drawn as by the generator that was released with the Splitwise paper: arrivals are a Poisson
process, prompt and output sizes are drawn each by itself. With its seed the same requests come out,
digit by digit.
"""

from dataclasses import dataclass

import numpy as np

from splitwise_planner.trace import Trace


@dataclass(frozen=True, slots=True)
class Workload:
    """Sizes to draw from, and for how many seconds requests arrive."""

    sizes: Trace
    duration_s: float

    def at(self, rate: float, seed: int) -> Trace:
        """Requests at `rate` per second; same seed, same requests."""
        drawn = int(1.3 * rate * self.duration_s + 1000)  # more than arrive, and part of the seed
        random = np.random.RandomState(seed)
        arrival_s = np.cumsum(random.standard_exponential(drawn) * (1.0 / rate))
        prompts = self.sizes.prompt_tokens[random.choice(len(self.sizes), drawn)]
        outputs = self.sizes.output_tokens[random.choice(len(self.sizes), drawn)]
        count = int(np.searchsorted(arrival_s, self.duration_s))
        return Trace(np.arange(count), arrival_s[:count], prompts[:count], outputs[:count])
