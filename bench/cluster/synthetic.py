"""A trace for want of a real one: lengths and arrivals like those of the Azure conversation trace.

Patel et al., "Splitwise: Efficient Generative LLM Inference Using Phase Splitting", ISCA 2024,
section III: prompts of the conversation service have a median of 1,020 tokens, answers one of 129.
The spread is fitted to the published trace (Azure Public Dataset, AzureLLMInferenceTrace_conv,
2023): 90 % of its prompts are below 2,735 tokens and 90 % of its answers below 424.
"""

import random
from collections.abc import Iterator
from itertools import islice
from math import exp, log
from typing import Final

from splitwise_core.trace import Arrival

PROMPT: Final = (1020, 2735)
OUTPUT: Final = (129, 424)
"""Median and 90th percentile, in tokens."""

LONGEST: Final = (14_050, 1_000)
"""The longest prompt and answer of the published trace."""

_Z90: Final = 1.2816  # the 90th percentile of the standard normal distribution


def trace(requests: int, seed: int) -> Iterator[Arrival]:
    """Requests of log-normal lengths, one a second on average; their arrivals are Poisson's."""
    draw = random.Random(seed)

    def endless() -> Iterator[Arrival]:
        at_s = 0.0
        while True:
            yield Arrival(
                at_s, _length(draw, *PROMPT, LONGEST[0]), _length(draw, *OUTPUT, LONGEST[1])
            )
            at_s += draw.expovariate(1.0)

    return islice(endless(), requests)


def _length(draw: random.Random, median: int, p90: int, most: int) -> int:
    sigma = log(p90 / median) / _Z90
    return max(1, min(most, round(median * exp(sigma * draw.gauss(0, 1)))))
