"""The words of the autoscaling law: what a pool is told, what is counted, and what is decided."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from splitwise_core.policy.roles import Role

BUSY_UP: Final = 0.8
"""A pool grows until its workers are busy with prompts for at most this part of the time: above it
queues grow faster than linearly (Kingman's formula), and two thirds of a step up are gone again."""

QUEUE: Final = BUSY_UP / (1 - BUSY_UP)
"""Prompts that a worker has on average when it is as busy as it should be (M/M/1: rho / (1 - rho)
are four). So many are there by chance, and are no shortage."""

RARE: Final = 0.1
"""A step down is taken only if less than so many prompts that come in LONG windows are expected to
find a queue, by chance, for which the pool would have to grow again."""

DOWN_RATIO: Final = 0.75
"""The workers that stay must carry the load at this part of what makes a pool grow. Between the two
nothing moves, so that one step is never what the next undoes."""

ROOMY: Final = 0.7
"""A step down that leaves the pool with so much of even that is taken after one window."""

LONG: Final = 10
"""Other steps down are taken after so many windows: a load that stays the same has its peaks, and
they come back."""

FALLEN: Final = 0.5
"""A pool that has grown shrinks before LONG windows are over only if no more than this is left of
the load that it grew for: else it has met one of the peaks of a load that stays the same."""

PATIENCE: Final = 4
"""So many times as long a pool waits each time that it had to undo a step down within LONG windows:
how far its peaks are apart nobody knows before they have come."""

MOST_PATIENCE: Final = LONG * PATIENCE**2

CATCH_UP_S: Final = 60.0
"""What waits is to be worked off in this time by workers beyond those that new work needs."""

STEP_UP: Final = 4
"""One step up at most doubles a pool, or adds so many workers."""

STEP_DOWN: Final = 4
"""One step down takes at most one of so many workers, and at least one."""


class Reason(StrEnum):
    """Why a pool has, or is to have, its number of workers."""

    BACKLOG_HIGH = "BacklogHigh"
    QUEUE_FULL = "QueueFull"
    KV_HIGH = "KvHigh"
    STEP_SLOW = "StepSlow"
    TTFT_MISSED = "TtftMissed"
    LOAD_LOW = "LoadLow"
    IN_BAND = "InBand"
    STARTING = "Starting"
    WINDOW = "Window"
    OTHER_POOL_SATURATED = "OtherPoolSaturated"
    SIGNAL_STALE = "SignalStale"
    SIGNAL_MISSING = "SignalMissing"
    ROLLING_OUT = "RollingOut"
    OUT_OF_BOUNDS = "OutOfBounds"
    RATIO = "Ratio"
    CAPACITY_MISSING = "CapacityMissing"
    SLO_INFEASIBLE = "SloInfeasible"
    IDLE = "Idle"
    REQUESTS_WAITING = "RequestsWaiting"


ABOUT: Final[Mapping[Reason, str]] = {
    Reason.BACKLOG_HIGH: "More prompt work waits for each worker than `backlogSeconds` and more "
    "than four prompts, or as much as routers let wait there.",
    Reason.QUEUE_FULL: "Prompts that wait fill the workers, and others wait at the routers.",
    Reason.KV_HIGH: "Sequences hold more of the KV memory, or of the places, than `kvRatio`.",
    Reason.STEP_SLOW: "A step of the decoding sequences takes longer than `tbtSeconds`.",
    Reason.TTFT_MISSED: "With these workers the first token comes later than `ttftSeconds`.",
    Reason.LOAD_LOW: "For a whole window fewer workers would have done.",
    Reason.IN_BAND: "The load fits.",
    Reason.STARTING: "The load needs the workers that are starting, and no more.",
    Reason.WINDOW: "A change is due, and the window since the last one is not over.",
    Reason.OTHER_POOL_SATURATED: "It could shrink, but the pool of the other phase is short of "
    "workers: its load comes back when that grows.",
    Reason.SIGNAL_STALE: "No worker has told its load for a while; nothing moves.",
    Reason.SIGNAL_MISSING: "Some ready workers do not tell their load; the pool does not shrink.",
    Reason.ROLLING_OUT: "It could shrink, but a rollout has workers of two revisions.",
    Reason.OUT_OF_BOUNDS: "It was outside `minReplicas` (or the schedule's) and `maxReplicas`, or "
    "at zero and another pool was not.",
    Reason.RATIO: "`ratio` asks for it, given the pool of the other phase.",
    Reason.CAPACITY_MISSING: "Workers had no node for `pendingSeconds`; they are asked for no "
    "more, and again after as long.",
    Reason.SLO_INFEASIBLE: "More workers would not reach the target: one prompt, or a step of one "
    "sequence, takes longer. The load alone decides.",
    Reason.IDLE: "Nobody has asked for `idleSeconds`; all pools go to zero together.",
    Reason.REQUESTS_WAITING: "Requests wait at the routers, and all pools wake together.",
}


@dataclass(frozen=True, slots=True)
class Slo:
    """Targets in seconds for the time to the first token and between tokens, at a percentile."""

    ttft_s: float
    tbt_s: float
    percentile: float = 0.9

    def __post_init__(self) -> None:
        assert self.ttft_s > 0
        assert self.tbt_s > 0
        assert 0 < self.percentile < 1


@dataclass(frozen=True, slots=True)
class Law:
    """What a pool is told. `least` 0 lets it, with all others, go to zero when idle.

    `backlog_s`: seconds of prompt work that may wait for each worker; `committed_s`: those that
    routers let wait there, and no more. `kv_ratio`: the part of KV memory that may be taken.
    `stale_s`: the age at which what was said counts no more.
    """

    role: Role
    least: int
    most: int
    backlog_s: float = 1.5
    committed_s: float = 5.0
    kv_ratio: float = 0.8
    slo: Slo | None = None
    up_window_s: float = 10.0
    down_window_s: float = 300.0
    pending_s: float = 300.0
    idle_s: float = 600.0
    stale_s: float = 10.0

    def __post_init__(self) -> None:
        assert 0 <= self.least <= self.most
        assert self.most >= 1
        assert self.backlog_s > 0
        assert self.committed_s > 0
        assert 0 < self.kv_ratio <= 1


@dataclass(frozen=True, slots=True)
class Counts:
    """Workers of a pool: `desired`, those `ready`, and those that have a node and are `warming`.

    What is desired beyond them has no node yet. `is_rolling`: two revisions are there.
    """

    desired: int
    ready: int
    warming: int = 0
    is_rolling: bool = False


@dataclass(frozen=True, slots=True)
class Ratio:
    """Prompt workers for each token worker: at least and at most."""

    least: float
    most: float

    def __post_init__(self) -> None:
        assert 0 < self.least <= self.most


@dataclass(frozen=True, slots=True)
class Decision:
    """Workers that a pool should have, why, and the numbers that it was told from."""

    replicas: int
    reason: Reason
    inputs: Mapping[str, float] = field(default_factory=dict)
    is_short: bool = False  # it lacks nodes for what it needs
