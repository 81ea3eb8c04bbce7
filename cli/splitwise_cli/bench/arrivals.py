"""When requests arrive, and how long they are: endless or finite streams, made one at a time."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count, islice, takewhile
from typing import Literal

from splitwise_core.trace import Arrival

Distribution = Literal["poisson", "constant"]


def arrival_times(
    rate: float, distribution: Distribution, burst: int, draw: random.Random
) -> Iterator[float]:
    """Seconds from the start, without end, `rate` a second on average, the first at 0.

    `burst` requests arrive at each of the times; the times are that much farther apart. Between
    them is `burst / rate` seconds, or a draw from the exponential distribution with that mean.
    """
    mean_s = burst / rate
    at_s = 0.0
    for number in count():
        if distribution == "constant":
            at_s = number * mean_s  # no sum: a million roundings would drift
        elif number:
            at_s += draw.expovariate(1 / mean_s)
        for _ in range(burst):
            yield at_s


def alike(times_s: Iterable[float], prompt_tokens: int, output_tokens: int) -> Iterator[Arrival]:
    """A request of one size at each of the times."""
    return (Arrival(at_s, prompt_tokens, output_tokens) for at_s in times_s)


def scaled(
    arrivals: Iterable[Arrival], time_scale: float, length_scale: float
) -> Iterator[Arrival]:
    """The same requests `time_scale` times as far apart and `length_scale` times as long.

    A request keeps at least one token of each kind.
    """
    for arrival in arrivals:
        yield Arrival(
            arrival.at_s * time_scale,
            max(1, round(arrival.prompt_tokens * length_scale)),
            max(1, round(arrival.output_tokens * length_scale)),
        )


def limited(
    arrivals: Iterable[Arrival], requests: int | None, duration_s: float | None
) -> Iterator[Arrival]:
    """The first of them: at most so many, and only what arrives before `duration_s` is over."""
    some = islice(arrivals, requests)
    return some if duration_s is None else takewhile(lambda a: a.at_s < duration_s, some)


def fitted(arrival: Arrival, context: int | None) -> Arrival:
    """The request, shortened to `context` tokens in all: its answer to half of them at most."""
    if context is None or arrival.prompt_tokens + arrival.output_tokens <= context:
        return arrival
    prompt_tokens = min(arrival.prompt_tokens, max(context - arrival.output_tokens, context // 2))
    output_tokens = min(arrival.output_tokens, context - prompt_tokens)
    return replace(arrival, prompt_tokens=prompt_tokens, output_tokens=output_tokens)
