"""How many workers of each revision there should be now: the next step of a rollout. Pure.

A request's two workers are of one revision, so a revision serves only when all its pools do. The
new one grows beside the old one; the old one gives way worker by worker once the new one serves,
and its last worker of each pool goes when the new one is whole. Every step is told from what is
there: a change of mind in the middle, or a restart, is an ordinary step.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

SURGE: Final = 0.25
"""The part of a pool by which the new revision may run ahead, at least one worker: Kubernetes' own
default for Deployments."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool: by revision, the workers that are `ready` and those `wanted` of its Deployment.

    `is_listed` is False for a pool that the spec no longer has.
    """

    name: str
    role: str
    desired: int
    ready: Mapping[str, int]
    wanted: Mapping[str, int]
    is_listed: bool = True


Step = dict[tuple[str, str], int]
"""(pool, revision) -> workers."""


def next_step(pools: Sequence[PoolState], revision: str, routers_done: bool) -> Step:
    """The workers that each Deployment should have now.

    `routers_done`: all routers are of `revision`, so that none needs the old workers.
    """
    listed = [pool for pool in pools if pool.is_listed]
    new_serves = all(pool.ready.get(revision, 0) >= min(1, pool.desired) for pool in listed)
    olds = sorted({old for pool in pools for old in pool.wanted if old != revision})
    serving = [old for old in olds if any(pool.ready.get(old) for pool in pools)]
    step: Step = {(pool.name, old): 0 for pool in pools for old in olds if old in pool.wanted}
    for pool in pools:
        if pool.is_listed:
            new = _of_new(pool, revision, new_serves)
            step[pool.name, revision] = new if serving else pool.desired
        elif revision in pool.wanted:
            step[pool.name, revision] = pool.wanted[revision] if _is_needed(pool, listed) else 0
    if _is_whole(listed, revision) and routers_done:
        return step
    ranked = _best_first(serving, listed)
    for pool in pools:
        left = _of_old(pool, revision) if new_serves else None
        step |= {(pool.name, old): count for old, count in _shared_out(pool, ranked, left)}
    return step


def _is_whole(pools: Iterable[PoolState], revision: str) -> bool:
    return all(pool.ready.get(revision, 0) >= pool.desired for pool in pools)


def _of_new(pool: PoolState, revision: str, new_serves: bool) -> int:
    """Runs ahead by the surge of what has taken over; never gives back what it has.

    What is ready takes over only when all pools serve: until then nothing old makes room for more.
    """
    taken_over = pool.ready.get(revision, 0) if new_serves else 0
    ahead = taken_over + max(1, ceil(pool.desired * SURGE))
    return min(pool.desired, max(ahead, pool.wanted.get(revision, 0)))


def _of_old(pool: PoolState, revision: str) -> int:
    """What the new revision does not do yet, and one worker until it is whole."""
    return max(1, pool.desired - pool.ready.get(revision, 0))


def _best_first(revisions: Sequence[str], pools: Sequence[PoolState]) -> list[str]:
    """Old revisions that can serve first: the weakest pool decides."""

    def rank(revision: str) -> tuple[int, int, str]:
        ready = [pool.ready.get(revision, 0) for pool in pools]
        return (-min(ready), -sum(ready), revision)

    return sorted(revisions, key=rank)


def _shared_out(
    pool: PoolState, ranked: Sequence[str], left: int | None
) -> Iterable[tuple[str, int]]:
    """`left` workers over the old revisions, none of which grows; None: all stay."""
    for old in ranked:
        if old in pool.wanted:
            kept = pool.wanted[old] if left is None else min(pool.wanted[old], left)
            left = None if left is None else left - kept
            yield old, kept


def _is_needed(pool: PoolState, listed: Sequence[PoolState]) -> bool:
    """Whether without an unlisted pool a phase had no ready worker."""
    phases = {"prompt", "token"} if pool.role == "mixed" else {pool.role}
    return any(
        not any(sum(other.ready.values()) and other.role in (phase, "mixed") for other in listed)
        for phase in phases
    )
