"""What one pool wishes, for itself alone. Pure: its state and counts in, a decision out."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, inf
from typing import Final

from splitwise_core.policy.chance import bursts, queues
from splitwise_core.policy.scaling.demand import RECENT_S, Demand, demand, may_wait_s
from splitwise_core.policy.scaling.law import (
    BUSY_UP,
    CATCH_UP_S,
    DOWN_RATIO,
    FALLEN,
    LONG,
    MOST_PATIENCE,
    PATIENCE,
    RARE,
    ROOMY,
    STEP_DOWN,
    STEP_UP,
    Counts,
    Decision,
    Law,
    Reason,
)
from splitwise_core.policy.scaling.measured import Measured, correct, learn
from splitwise_core.policy.scaling.signals import Reading

OFFERED_S: Final = 30.0
"""The load is what came in the last so many seconds; longer prompts than that are rare."""

SLACK: Final = 1e-9
"""What rounding may add to a number of workers."""

MOST_READINGS: Final = 64
"""Readings that are kept at most, however short the time between two looks."""


@dataclass(frozen=True, slots=True)
class State:
    """What is remembered of a pool from look to look.

    `lows`: the times and sizes of past demands' `low`, of which none has a later one that is as
    large: the first is the largest of the window.
    """

    readings: tuple[Reading, ...] = ()
    known: Measured = field(default_factory=Measured)
    demand: Demand = field(default_factory=Demand)
    lows: tuple[tuple[float, float], ...] = ()
    usual: float = 0.0  # workers that prompts kept busy on average, in a long window
    seen_s: float = -inf  # the last look
    watched_from_s: float = -inf  # since when looks have followed each other
    changed_s: float = -inf
    raised_s: float = -inf
    lowered_s: float = -inf
    patience: int = LONG  # windows from growing to shrinking while the load has not fallen
    raised_for: float = inf  # workers that what came needed when the load made it grow last
    short_from_s: float | None = None  # since when workers have no node
    late_from_s: float | None = None  # since when workers have a node and are not ready
    barred_until_s: float = -inf  # for want of nodes
    busy_s: float = -inf  # when somebody asked for something last


def observe(state: State, law: Law, counts: Counts, now: Reading | None, at_s: float) -> State:
    """The state with a look at the pool; `now` is None when none of its workers was heard."""
    short = counts.desired - counts.ready - counts.warming
    state = replace(
        state,
        short_from_s=_since(state.short_from_s, short > 0, at_s),
        late_from_s=_since(state.late_from_s, counts.warming > 0, at_s),
        busy_s=at_s if state.busy_s == -inf else state.busy_s,
        seen_s=at_s,
        watched_from_s=at_s if at_s - state.seen_s > law.stale_s else state.watched_from_s,
    )
    if now is None:  # a pool whose workers load for long has not been idle when they are ready
        return replace(state, busy_s=at_s, lows=_with_low(state, law, at_s, inf))
    kept = [one for one in state.readings if one.at_s > at_s - OFFERED_S]
    readings = (*kept, now)[-MOST_READINGS:]
    known = learn(state.known, now)
    if law.slo is not None:
        by_model = demand(law, readings, replace(known, late=1.0))
        is_enough = by_model.pressing(max(1, counts.ready)) is None
        known = correct(known, readings, law.slo, is_enough)
    asked = demand(law, readings, known)
    grows = at_s - state.raised_s <= OFFERED_S  # a step of load is not measured in a moment
    return replace(
        state,
        readings=readings,
        known=known,
        demand=asked,
        usual=_usual(state, law, asked.offered, now.seconds),
        raised_for=max(state.raised_for, asked.steady) if grows else state.raised_for,
        busy_s=state.busy_s if now.is_idle else at_s,
        lows=_with_low(state, law, at_s, inf if now.missing else asked.low),
    )


def _usual(state: State, law: Law, offered: float, seconds: float) -> float:
    """What was offered on average in LONG windows, or since looks have followed each other."""
    watched_s = min(state.seen_s - state.watched_from_s, LONG * law.down_window_s)
    gain = min(1.0, seconds / watched_s) if watched_s > 0 else 1.0
    return state.usual + gain * (offered - state.usual)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pool would have by itself, and whether it is short of workers that are ready."""

    decision: Decision
    is_saturated: bool = False


def wish(state: State, law: Law, counts: Counts, at_s: float) -> Wish:
    """Workers that the pool should have, but for what other pools need of it."""
    desired = counts.desired
    fresh = bool(state.readings) and at_s - state.readings[-1].at_s <= law.stale_s
    bounded = min(max(desired, law.least, min(desired, 1)), law.most)
    if bounded != desired:
        return Wish(Decision(bounded, Reason.OUT_OF_BOUNDS))
    short = desired - counts.ready - counts.warming
    if state.short_from_s is not None and at_s - state.short_from_s >= law.pending_s and short > 0:
        there = max(desired - short, law.least, 1)
        return Wish(Decision(there, Reason.CAPACITY_MISSING, {"pending": short}, is_short=True))
    if not fresh:
        return Wish(Decision(desired, Reason.SIGNAL_STALE))
    inputs = {**state.demand.inputs, "ready": counts.ready}
    is_saturated = state.demand.pressing(max(1, state.readings[-1].workers)) is not None
    return Wish(_sized(state, law, counts, inputs, at_s), is_saturated)


def _sized(
    state: State, law: Law, counts: Counts, inputs: Mapping[str, float], at_s: float
) -> Decision:
    """Up at once, within what one step may add; down when a window says so."""
    desired = counts.desired
    need = state.demand.pressing(_supply(state, law, counts, at_s))
    needed = min(ceil(need.up - SLACK), law.most) if need is not None else 0
    if need is not None and needed > desired:
        inputs = {**inputs, "needed": need.up}
        if at_s < state.barred_until_s:
            return Decision(desired, Reason.CAPACITY_MISSING, inputs, is_short=True)
        if at_s - state.raised_s < law.up_window_s:
            return Decision(desired, Reason.WINDOW, inputs)
        return Decision(min(needed, desired + max(desired, STEP_UP)), need.reason, inputs)
    fewer = _fewer(state, law, counts)
    if need is not None or fewer >= desired:
        return Decision(desired, _calm(state, counts), inputs)
    inputs = {**inputs, "lowest": _highest_low(state, at_s - law.down_window_s)}
    if state.readings[-1].missing:
        return Decision(desired, Reason.SIGNAL_MISSING, inputs)
    if counts.is_rolling:
        return Decision(desired, Reason.ROLLING_OUT, inputs)
    if at_s - max(state.changed_s, state.watched_from_s) < law.down_window_s:
        return Decision(desired, Reason.WINDOW, inputs)
    return Decision(fewer, Reason.LOAD_LOW, inputs)


def _fewer(state: State, law: Law, counts: Counts) -> int:
    """The fewest workers, one step down at most, that would have done all the time.

    Easily for one window, or just so for a long one; and for a while after the pool has grown, only
    if the load that it grew for has gone.
    """
    desired, at_s = counts.desired, state.seen_s
    fewest = max(1, law.least, desired - max(1, desired // STEP_DOWN))
    has_grown = at_s - state.raised_s < state.patience * law.down_window_s
    low = inf
    if not has_grown or _has_fallen(state, law):
        low = _highest_low(state, at_s - law.down_window_s) / ROOMY
    if not has_grown and state.watched_from_s <= at_s - LONG * law.down_window_s:
        low = min(low, state.lows[0][1])
    if low == inf:
        return desired
    able = range(max(fewest, ceil(low - SLACK)), desired)
    return next((workers for workers in able if not _is_restless(state, law, workers)), desired)


def _is_restless(state: State, law: Law, workers: int) -> bool:
    """Whether chance alone would make a pool of so many workers grow again within LONG windows.

    For that, prompts have to find enough others before them, and enough must have come lately.
    """
    prompt_s = state.known.prompt_s
    if prompt_s <= 0:
        return False
    highest = _highest_low(state, state.seen_s - law.down_window_s)
    offered = min(state.usual, highest * BUSY_UP * DOWN_RATIO)  # it may have fallen
    wait_s = may_wait_s(law, state.known)
    arrivals = offered * LONG * law.down_window_s / prompt_s
    recent = RECENT_S / prompt_s  # prompts that one worker computes meanwhile
    many = BUSY_UP * workers * (1 - wait_s / CATCH_UP_S) * recent
    chance = min(queues(workers, offered, wait_s / prompt_s), bursts(offered * recent, many))
    return arrivals * chance > RARE


def _has_fallen(state: State, law: Law) -> bool:
    """Whether the load that the pool grew for last has gone; so it has when nobody remembers it."""
    highest = _highest_low(state, state.seen_s - law.down_window_s)
    return highest <= FALLEN * state.raised_for


def _highest_low(state: State, from_s: float) -> float:
    """Lows get smaller, so that the first of the window is its largest."""
    return next(low for at_s, low in state.lows if at_s >= from_s)


def _calm(state: State, counts: Counts) -> Reason:
    """Why nothing is to be done."""
    if state.readings[-1].missing:
        return Reason.SIGNAL_MISSING
    if counts.desired > counts.ready:
        return Reason.STARTING
    return Reason.IN_BAND if state.demand.is_feasible else Reason.SLO_INFEASIBLE


def decided(state: State, law: Law, counts: Counts, made: Decision, at_s: float) -> State:
    """The state once the decision has been written."""
    if made.replicas == counts.desired:
        return state
    if made.reason is Reason.CAPACITY_MISSING:
        state = replace(state, barred_until_s=at_s + law.pending_s, short_from_s=None)
    raised = made.replicas > counts.desired
    woke = counts.desired == 0
    by_load = raised and not woke and state.demand.pressing(counts.desired) is not None
    patience = state.patience
    if by_load and at_s - state.lowered_s < LONG * law.down_window_s:  # it has to be undone
        patience = min(PATIENCE * patience, MOST_PATIENCE)
    elif made.reason is Reason.LOAD_LOW and _has_fallen(state, law):
        patience = LONG
    return replace(
        state,
        changed_s=at_s,
        raised_s=at_s if raised and not woke else state.raised_s,
        lowered_s=state.lowered_s if raised else at_s,
        patience=patience,
        raised_for=state.demand.steady if by_load else state.raised_for,
        busy_s=at_s if woke else state.busy_s,
    )


def _supply(state: State, law: Law, counts: Counts, at_s: float) -> int:
    """Workers that there are or will be: those that start are counted, but not for ever."""
    late = state.late_from_s is not None and at_s - state.late_from_s >= 2 * law.pending_s
    return max(1, counts.desired - (counts.warming if late else 0))


def _since(before: float | None, holds: bool, at_s: float) -> float | None:
    if not holds:
        return None
    return at_s if before is None else before


def _with_low(state: State, law: Law, at_s: float, low: float) -> tuple[tuple[float, float], ...]:
    kept = [one for one in state.lows if one[0] >= at_s - LONG * law.down_window_s and one[1] > low]
    return (*kept, (at_s, low))
