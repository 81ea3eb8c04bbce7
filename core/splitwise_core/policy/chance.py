"""What random arrivals do to workers while their rate stays the same. Pure: formulas alone."""

from collections.abc import Iterator
from math import exp, log


def waiting(offered: float, most: int) -> Iterator[float]:
    """The part of arrivals that has to wait for 1, 2, to `most` workers: Erlang's C formula.

    `offered`: worker-seconds of work that come in a second. 1 where that is more than they can do.
    """
    blocked = 1.0  # Erlang's B formula, worker by worker
    for workers in range(1, most + 1):
        blocked = offered * blocked / (workers + offered * blocked)
        is_stable = offered < workers
        yield blocked / (1 - offered / workers * (1 - blocked)) if is_stable else 1.0


def queues(workers: int, offered: float, each: float) -> float:
    """The part of arrivals that find `each` others or more for each of the workers.

    Those that are served are counted in `each`, of which one is the least. Before n workers (M/M/n)
    j or more wait with the probability C(n, offered) (offered / n)^j.
    """
    if offered >= workers:
        return 1.0
    *_, waits = waiting(offered, workers)
    longer: float = (offered / workers) ** (workers * max(0.0, each - 1))
    return waits * longer


def bursts(mean: float, least: float) -> float:
    """At most so often as many as `least` come where `mean` do on average (Chernoff's bound)."""
    if least <= mean:
        return 1.0
    if mean <= 0:
        return 0.0
    return exp(least - mean - least * log(least / mean))
