"""How many workers a pool's load needs. Pure: readings of the last half minute in, workers out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Final

from splitwise_core.policy.roles import Role
from splitwise_core.policy.scaling.law import (
    BUSY_UP,
    CATCH_UP_S,
    DOWN_RATIO,
    QUEUE,
    Law,
    Reason,
)
from splitwise_core.policy.scaling.measured import Measured
from splitwise_core.policy.scaling.signals import Reading
from splitwise_core.policy.scaling.slo import prompt_workers, step_workers

FULL: Final = 0.8
"""Prompt workers of which so much is held by waiting prompts are full: what waits at the routers
then waits for them."""


RECENT_S: Final = 10.0
"""What came in so many seconds tells of a load that rises, before it has done so for long."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that asks for workers. With fewer than `presses` the pool grows, up to `up`."""

    up: float
    presses: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class Demand:
    """Workers that the load needs. With fewer than `low` a step down would have to be undone.

    `steady` is that of what comes alone, whatever has piled up; `offered`: those that prompts which
    come keep busy. `is_feasible`: whether the targets can be reached at all.
    """

    needs: Sequence[Need] = ()
    low: float = 0.0
    steady: float = 0.0
    offered: float = 0.0
    inputs: Mapping[str, float] = field(default_factory=dict)
    is_feasible: bool = True

    def pressing(self, workers: int) -> Need | None:
        """What asks for the most, where so many workers are too few."""
        asking = [need for need in self.needs if need.presses > workers]
        return max(asking, key=lambda need: need.up, default=None)


def demand(law: Law, readings: Sequence[Reading], known: Measured) -> Demand:
    """What the pool needs, from readings of which the last is the newest; there is one.

    A mixed pool needs the more of what prompts and tokens need.
    """
    asked = []
    if law.role is not Role.TOKEN:
        asked += _prompt(law, readings, known)
    if law.role is not Role.PROMPT:
        asked += _token(law, readings, known)
    return Demand(
        needs=[need for one in asked for need in one.needs],
        low=max(one.low for one in asked),
        steady=max(one.steady for one in asked),
        offered=max(one.offered for one in asked),
        inputs={name: value for one in asked for name, value in one.inputs.items()},
        is_feasible=all(one.is_feasible for one in asked),
    )


def _prompt(law: Law, readings: Sequence[Reading], known: Measured) -> list[Demand]:
    now, speed = readings[-1], known.prompt_tokens_per_s
    if speed <= 0:  # nothing was computed yet
        return [_full(readings), Demand(low=inf if now.queued_tokens else 0.0)]
    asked = now.held.asked_share
    offered = asked * _offered_tokens_per_s(readings) / speed
    recent = [one for one in readings if one.at_s > now.at_s - RECENT_S]
    rising = max(offered, asked * _offered_tokens_per_s(recent) / speed)
    backlog_s = now.queued_tokens / speed
    extra = backlog_s / CATCH_UP_S
    inputs = {
        "backlogSeconds": backlog_s / max(now.workers, 1),
        "offeredWorkers": offered,
        "promptTokensPerSecond": speed,
        "askedShare": asked,
    }
    presses = backlog_s / may_wait_s(law, known)
    if any(one.lent_tokens for one in recent):  # what is borrowed keeps the backlog small
        presses = max(presses, offered)
    need = Need(rising / BUSY_UP + extra, presses, Reason.BACKLOG_HIGH)
    # What waits would not have to with more workers, and would again with fewer.
    steady = offered / (BUSY_UP * DOWN_RATIO)
    low = max(steady + extra, presses)
    made = [_full(readings), Demand([need], low, steady, offered, inputs)]
    return [*made, _ttft(law, rising, extra, known)] if law.slo is not None else made


def may_wait_s(law: Law, known: Measured) -> float:
    """Seconds of prompt work that may wait for each worker: some prompts may, however long."""
    return min(max(law.backlog_s, QUEUE * known.prompt_s), law.committed_s)


def _offered_tokens_per_s(readings: Sequence[Reading]) -> float:
    """Prompt tokens that came in a second, to the workers or to the queues of the routers."""
    seconds = max(RECENT_S, sum(one.seconds for one in readings))
    arrived = sum(one.arrived_tokens for one in readings)
    queued = readings[-1].held.prompt_tokens - readings[0].held.prompt_tokens
    return max(0, arrived + queued) / seconds


def _full(readings: Sequence[Reading]) -> Demand:
    """Waiting prompts may be many and short: then places run out before seconds pile up."""
    now = readings[-1]
    if not now.held.requests:
        return Demand()
    full = now.workers * min(one.waiting_share for one in readings[-2:]) / FULL
    need = Need(full * (1 + 1 / max(now.workers, 1)), full, Reason.QUEUE_FULL)
    return Demand([need], inputs={"waitingShare": now.waiting_share})


def _ttft(law: Law, offered: float, extra: float, known: Measured) -> Demand:
    assert law.slo is not None
    slo, inputs = law.slo, {"promptSeconds": known.prompt_s, "late": known.late}
    fewest = prompt_workers(offered, known.prompt_s, slo.ttft_s, slo.percentile, law.most)
    slack = offered / DOWN_RATIO
    fewer = prompt_workers(slack, known.prompt_s, slo.ttft_s, slo.percentile, law.most)
    if fewest is None or fewer is None:
        return Demand(inputs=inputs, is_feasible=False)
    up = fewest * known.late + extra
    steady = fewer * known.late
    return Demand([Need(up, up, Reason.TTFT_MISSED)], steady + extra, steady, inputs=inputs)


def _token(law: Law, readings: Sequence[Reading], known: Measured) -> list[Demand]:
    now = readings[-1]
    # Of the last two, the less: one look at a moment's peak moves nothing.
    taken = now.workers * min(one.taken_share for one in readings[-2:])
    # Only then what waits at routers waits for this pool, and what they turn away lacks it.
    if taken > law.kv_ratio * now.workers:
        taken = taken * now.held.asked_share + now.workers * now.held_share
    up = taken / law.kv_ratio
    inputs = {"kvShare": now.taken_share, "kvWorkers": taken, "decoding": float(now.taken)}
    low = now.workers * now.taken_share / (law.kv_ratio * DOWN_RATIO) * _longer(law, now, known)
    made = Demand([Need(up, up, Reason.KV_HIGH)], low, low, inputs=inputs)
    return [made, _tbt(law, now, known)] if law.slo is not None else [made]


def _longer(law: Law, now: Reading, known: Measured) -> float:
    """How much longer a sequence stays when fewer workers have as much as they may, or all of it.

    Steps of more sequences are slower, so that each holds its memory for longer.
    """
    if known.step_slope_s is None or now.taken_share <= 0:
        return 1.0
    each = now.taken / now.workers
    most = min(float(now.taken), each * law.kv_ratio * DOWN_RATIO / now.taken_share)
    base_s, slope_s = known.step_base_s, known.step_slope_s
    step_s = base_s + slope_s * each
    return max(1.0, (base_s + slope_s * most) / step_s) if step_s > 0 else 1.0


def _tbt(law: Law, now: Reading, known: Measured) -> Demand:
    assert law.slo is not None
    base_s, slope_s = known.step_base_s, known.step_slope_s
    inputs = {"stepBaseSeconds": base_s, "stepSlopeSeconds": slope_s or 0.0}
    if slope_s is None:
        return Demand(inputs=inputs)
    up = step_workers(now.taken, base_s, slope_s, law.slo.tbt_s / known.step_spread)
    if up is None:
        return Demand(inputs=inputs, is_feasible=False)
    steady = up / DOWN_RATIO
    return Demand([Need(up, up, Reason.STEP_SLOW)], steady, steady, inputs=inputs)
