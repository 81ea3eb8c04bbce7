"""Workers that a latency target needs. Pure: measured rates in, workers out."""

from math import exp

from splitwise_core.policy.chance import waiting

MOST_BUSY = 0.95
"""A target is never met by workers that are busier: the formula is exact for random arrivals, and
real ones come in bursts."""


def prompt_workers(
    offered: float, prompt_s: float, ttft_s: float, percentile: float, most: int
) -> int | None:
    """The fewest workers whose queue lets `percentile` of first tokens come within `ttft_s`.

    `offered`: worker-seconds of prompts that come in a second. `prompt_s`: one prompt's. None when
    a prompt alone takes longer than the target; `most` when that many are not enough. The queue is
    one of random arrivals before n workers (Erlang's C formula): a wait longer than t has the
    probability C(n, offered) exp(-(n - offered) t / prompt_s).
    """
    if prompt_s <= 0:
        return 0
    wait_s = ttft_s - prompt_s
    if wait_s <= 0:
        return None
    late = 1 - percentile
    for workers, waits in enumerate(waiting(offered, most), 1):
        if offered > MOST_BUSY * workers:
            continue
        if waits * exp(-(workers - offered) * wait_s / prompt_s) <= late:
            return workers
    return most


def step_workers(sequences: float, base_s: float, slope_s: float, target_s: float) -> float | None:
    """Workers among which so many sequences decode in steps of at most `target_s`.

    A step takes `base_s + slope_s * sequences`. None when that of one sequence is too slow.
    """
    if base_s + slope_s > target_s:
        return None
    if slope_s <= 0:
        return 0.0
    return sequences * slope_s / (target_s - base_s)
