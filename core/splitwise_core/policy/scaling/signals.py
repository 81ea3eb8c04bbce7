"""From what each worker says of itself to what a pool has to do: sums, and rates between two looks.

Pure. Workers count upward for ever; a rate is the difference of two counts in one life of one
worker. A worker that is new, or has been restarted, brings its load at once, and its rates with
the next look.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from splitwise_core.metric import doubling
from splitwise_core.policy.roles import Role

WARM_UP_S: Final = 10.0
"""So long after it was first heard a worker's speed is not looked at: it compiles and fills caches,
and the pool would be taken for slower than it is."""

MOST_ASKED: Final = 2.0
"""Of what is turned away no more counts than of what is taken in: who comes back is counted again,
and nobody knows how many do."""

BOUNDS_S: Final = doubling(0.001, 17)
"""1 ms to 65 s: the bounds between which latencies are counted; longer ones come after the last."""


@dataclass(frozen=True, slots=True)
class WorkerLoad:
    """What one worker says of itself. Counters end in `_total` and begin at 0 with `life`.

    KV is in tokens of room: `kv_waiting` for prompts not computed yet, `kv_taken` by what decodes,
    `kv_reserved` for what is to arrive. Prompts that are done and not handed over are in none of
    them, nor in `queued_tokens`. `ttft_counts` are prompts by the time from their arrival to
    their first token, `tbt_counts` decoded tokens by the time of their step: one count for each of
    BOUNDS_S, and one beyond.
    """

    life: int
    kv_capacity: int
    max_sequences: int
    queued_tokens: int = 0
    waiting: int = 0
    kv_waiting: int = 0
    taken: int = 0
    kv_taken: int = 0
    reserved: int = 0
    kv_reserved: int = 0
    prompts_total: int = 0
    prompt_tokens_total: int = 0
    prompt_s_total: float = 0.0
    steps_total: int = 0
    step_s_total: float = 0.0
    step_tokens_total: int = 0
    ttft_counts: tuple[int, ...] = ()
    tbt_counts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Held:
    """What waits at the routers: requests, their prompt tokens, and the KV that they may need.

    `early`: the part of all reservations whose prompts still wait. Both workers of a request are
    chosen together, so that a queue of prompts holds room in token pools that are not short of it.
    `placed_tokens` and `refused_tokens`: those of prompts that found workers, and that were turned
    away for want of room, in the last seconds, of the whole cluster.
    """

    requests: int = 0
    prompt_tokens: int = 0
    kv_tokens: int = 0
    early: float = 0.0
    placed_tokens: int = 0
    refused_tokens: int = 0

    @property
    def asked_share(self) -> float:
        """How many times what found workers lately was asked for, from 1 to MOST_ASKED."""
        if not self.refused_tokens:
            return 1.0
        return min(MOST_ASKED, 1 + self.refused_tokens / max(1, self.placed_tokens))


class Heard(NamedTuple):
    """A worker's last word, and when it was heard first in this life."""

    load: WorkerLoad
    first_s: float


Memory = Mapping[str, Heard]
"""By worker, what it said last."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A pool at one moment: sums over `workers`, and what came about in the `seconds` before it.

    `missing`: workers that are ready and did not answer, whose load is not in here, and routers.
    `arrived_tokens`: prompt tokens that came, whether they wait or have been computed;
    `lent_tokens` of them to token workers that were borrowed for them.
    """

    at_s: float
    seconds: float
    workers: int
    missing: int = 0
    held: Held = Held()
    kv_capacity: int = 0
    max_sequences: int = 0
    queued_tokens: int = 0
    waiting: int = 0
    kv_waiting: int = 0
    taken: int = 0
    kv_taken: int = 0
    reserved: int = 0
    kv_reserved: int = 0
    arrived_tokens: int = 0
    lent_tokens: int = 0
    prompts: int = 0
    prompt_tokens: int = 0
    prompt_s: float = 0.0
    steps: int = 0
    step_s: float = 0.0
    step_tokens: int = 0
    ttft_counts: tuple[int, ...] = ()
    tbt_counts: tuple[int, ...] = ()

    @property
    def waiting_share(self) -> float:
        """The part of memory or places, whichever is more, that waiting prompts hold."""
        return _share(self.kv_waiting, self.kv_capacity, self.waiting, self.max_sequences)

    @property
    def taken_share(self) -> float:
        """The part of memory or places, whichever is more, that decoding holds or will hold.

        Room for sequences whose prompts wait is not counted: prompt workers are short then.
        """
        due = 1 - self.held.early
        kv, sequences = self.kv_taken + due * self.kv_reserved, self.taken + due * self.reserved
        return _share(kv, self.kv_capacity, sequences, self.max_sequences)

    @property
    def held_share(self) -> float:
        """What waits at the routers, as `taken_share` counts it."""
        held = self.held
        return _share(held.kv_tokens, self.kv_capacity, held.requests, self.max_sequences)

    @property
    def is_idle(self) -> bool:
        """Whether nobody has asked for anything since the look before."""
        here = self.waiting + self.taken + self.reserved
        return not (self.missing or here or self.arrived_tokens or self.held.requests)


def reading(
    before: Memory,
    said: Mapping[str, WorkerLoad],
    missing: int,
    held: Held,
    at_s: float,
    last_s: float,
) -> tuple[Reading, Memory]:
    """What the pool's workers say now, and what is to be remembered for the next look.

    `last_s` is the time of the look before.
    """
    memory = {
        name: Heard(load, was.first_s if (was := _same_life(before, name, load)) else at_s)
        for name, load in said.items()
    }
    steps = [
        (was.load, load, at_s - was.first_s >= WARM_UP_S)
        for name, load in said.items()
        if (was := _same_life(before, name, load))
    ]
    # In a pool where all are new there is nothing else to go by.
    warm = [(was, now) for was, now, is_warm in steps if is_warm] or [one[:2] for one in steps]
    new = [load for name, load in said.items() if not _same_life(before, name, load)]
    made = Reading(
        at_s=at_s,
        seconds=at_s - last_s,
        workers=len(said),
        missing=missing,
        held=held,
        arrived_tokens=sum(_arrived(was, now) for was, now, _ in steps)
        + (sum(load.queued_tokens for load in new) if before else 0),
        ttft_counts=_counted([(was.ttft_counts, now.ttft_counts) for was, now in warm]),
        tbt_counts=_counted([(was.tbt_counts, now.tbt_counts) for was, now in warm]),
        **{name: sum(getattr(load, name) for load in said.values()) for name in _GAUGES},
        **{name: _grown(f"{name}_total", warm) for name in _RATES},
    )
    return made, memory


def with_lent(
    readings: Mapping[str, Reading | None], roles: Mapping[str, Role]
) -> dict[str, Reading | None]:
    """The readings of a cluster's pools, with prompts on token workers counted for prompt pools.

    In equal parts: else a pool that always borrows would never look short of workers.
    """
    lent = [one for name, one in readings.items() if one and roles[name] is Role.TOKEN]
    arrived = sum(one.arrived_tokens for one in lent)
    queued = sum(one.queued_tokens for one in lent)
    prompts = [name for name, one in readings.items() if one and roles[name] is Role.PROMPT]
    made = dict(readings)
    for name in prompts if arrived or queued else ():
        own = readings[name]
        assert own is not None
        part = arrived // len(prompts)
        made[name] = replace(
            own,
            arrived_tokens=own.arrived_tokens + part,
            lent_tokens=part,
            queued_tokens=own.queued_tokens + queued // len(prompts),
        )
    return made


_GAUGES: Final = (
    *("kv_capacity", "max_sequences", "queued_tokens"),
    *("waiting", "kv_waiting", "taken", "kv_taken", "reserved", "kv_reserved"),
)
_RATES: Final = ("prompts", "prompt_tokens", "prompt_s", "steps", "step_s", "step_tokens")


def quantile(counts: Sequence[int], part: float) -> float:
    """Seconds that `part` of what was counted took at most; 0 when nothing was.

    Within a bucket what it holds is taken to lie evenly; beyond the last bound it is that bound.
    """
    wanted = part * sum(counts)
    below = 0.0
    for index, count in enumerate(counts):
        if count and below + count >= wanted:
            high = BOUNDS_S[min(index, len(BOUNDS_S) - 1)]
            low = BOUNDS_S[index - 1] if index else 0.0
            return low + (high - low) * (wanted - below) / count
        below += count
    return 0.0


def bucket(seconds: float) -> int:
    """The index of the count that a latency belongs to."""
    return bisect_left(BOUNDS_S, seconds)


def summed(counts: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Counts of several readings together."""
    return tuple(map(sum, zip(*(one for one in counts if one))))


def _same_life(before: Memory, name: str, load: WorkerLoad) -> Heard | None:
    was = before.get(name)
    return was if was is not None and was.load.life == load.life else None


def _arrived(was: WorkerLoad, now: WorkerLoad) -> int:
    """Prompts that were cancelled while they waited shrink the queue: that is no arrival."""
    computed = now.prompt_tokens_total - was.prompt_tokens_total
    return max(0, computed + now.queued_tokens - was.queued_tokens)


def _grown(field: str, pairs: Sequence[tuple[WorkerLoad, WorkerLoad]]) -> Any:
    return sum(getattr(now, field) - getattr(was, field) for was, now in pairs)


def _counted(pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[int, ...]:
    return summed([[b - a for a, b in zip(was, now)] for was, now in pairs])


def _share(kv: float, kv_capacity: int, sequences: float, max_sequences: int) -> float:
    by_memory = kv / kv_capacity if kv_capacity else 0.0
    return max(by_memory, sequences / max_sequences if max_sequences else 0.0)
