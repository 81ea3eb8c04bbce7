"""The wishes of all pools of a cluster, brought into line. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import ceil, floor
from typing import Final

from splitwise_core.policy.roles import Role
from splitwise_core.policy.scaling.law import Counts, Decision, Law, Ratio, Reason
from splitwise_core.policy.scaling.pool import State, Wish, decided, wish

_OPPOSITE: Final = {Role.PROMPT: Role.TOKEN, Role.TOKEN: Role.PROMPT}


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool as it is decided on.

    One with `law` None is somebody else's to scale: its number counts, and is left alone.
    """

    counts: Counts
    role: Role
    law: Law | None
    state: State = field(default_factory=State)


Pools = Mapping[str, Pool]


def decide(
    pools: Pools, ratio: Ratio | None, held: int, at_s: float
) -> dict[str, tuple[Decision, State]]:
    """For each pool that is ours, how many workers it should have, and its state after that.

    `held`: requests that wait at the routers.
    """
    wishes = {
        name: wish(pool.state, pool.law, pool.counts, at_s)
        for name, pool in pools.items()
        if pool.law is not None
    }
    wishes = _while_others_are_short(pools, wishes)
    made = {name: one.decision for name, one in wishes.items()} | _woken(pools, held)
    if _all_sleep(pools, held, at_s):
        made = {name: Decision(0, Reason.IDLE) for name in pools}
    elif ratio is not None:
        made = _in_ratio(pools, made, ratio)
    return {
        name: (one, decided(pool.state, pool.law, pool.counts, one, at_s))
        for name, one in made.items()
        if (pool := pools[name]).law is not None
    }


def _while_others_are_short(pools: Pools, wishes: Mapping[str, Wish]) -> dict[str, Wish]:
    """No pool shrinks while one that does the other phase lacks workers."""
    made = dict(wishes)
    for name, one in wishes.items():
        pool = pools[name]
        others_short = any(
            other.is_saturated and _is_other_phase(pool.role, pools[second].role)
            for second, other in wishes.items()
            if second != name
        )
        if one.decision.reason is Reason.LOAD_LOW and others_short:
            kept = replace(
                one.decision, replicas=pool.counts.desired, reason=Reason.OTHER_POOL_SATURATED
            )
            made[name] = replace(one, decision=kept)
    return made


def _is_other_phase(own: Role, other: Role) -> bool:
    return own is Role.MIXED or other is Role.MIXED or _OPPOSITE[own] is other


def _all_sleep(pools: Pools, held: int, at_s: float) -> bool:
    """Whether all pools go to zero, or stay there: they all may, and nobody asks for anything."""
    if held or not _may_sleep(pools):
        return False
    asleep = not any(pool.counts.desired for pool in pools.values())
    return asleep or all(_is_idle(pool, at_s) for pool in pools.values())


def _woken(pools: Pools, held: int) -> dict[str, Decision]:
    """Pools at zero begin with the least they may have: without one phase nobody is served."""
    inputs = {"heldRequests": float(held)}
    why = Reason.REQUESTS_WAITING if held else Reason.OUT_OF_BOUNDS
    return {
        name: Decision(max(1, pool.law.least), why, inputs)
        for name, pool in pools.items()
        if pool.law is not None and pool.counts.desired == 0
    }


def _may_sleep(pools: Pools) -> bool:
    return all(pool.law is not None and pool.law.least == 0 for pool in pools.values())


def _is_idle(pool: Pool, at_s: float) -> bool:
    """Whether it has been for long, and says so now: silence is no idleness."""
    law, readings = pool.law, pool.state.readings
    assert law is not None
    fresh = bool(readings) and at_s - readings[-1].at_s <= law.stale_s and readings[-1].is_idle
    return fresh and at_s - pool.state.busy_s >= law.idle_s


def _in_ratio(pools: Pools, made: Mapping[str, Decision], ratio: Ratio) -> dict[str, Decision]:
    """The decisions with prompt and token pools in `ratio`: more of one before less of the other.

    Where the pools' bounds leave no way, what they wish is kept.
    """
    sides = {role: _side(pools, made, role) for role in (Role.PROMPT, Role.TOKEN)}
    prompt, token = sides[Role.PROMPT], sides[Role.TOKEN]
    if prompt.wanted == 0 or token.wanted == 0:
        return dict(made)
    found = _repaired(prompt, token, ratio)
    if found is None:
        return dict(made)
    after = dict(made)
    for role, total in zip((Role.PROMPT, Role.TOKEN), found):
        _spread(pools, after, role, total)
    return after


@dataclass(frozen=True, slots=True)
class _Side:
    """The pools of a role together."""

    wanted: int
    least: int
    most: int


def _side(pools: Pools, made: Mapping[str, Decision], role: Role) -> _Side:
    wanted = least = most = 0
    for name, pool in pools.items():
        if pool.role is role:
            number = made[name].replicas if name in made else pool.counts.desired
            wanted += number
            least += max(1, pool.law.least) if pool.law else number
            most += pool.law.most if pool.law else number
    return _Side(wanted, least, most)


def _repaired(prompt: _Side, token: _Side, ratio: Ratio) -> tuple[int, int] | None:
    """Prompt and token workers in ratio that lose the fewest of those wished, and then add the
    fewest; None when the bounds leave no way."""
    if ratio.least * token.wanted <= prompt.wanted <= ratio.most * token.wanted:
        return prompt.wanted, token.wanted
    best: tuple[int, int, int, int] | None = None
    for tokens in range(token.least, token.most + 1):
        low = max(ceil(ratio.least * tokens - 1e-9), prompt.least)
        high = min(floor(ratio.most * tokens + 1e-9), prompt.most)
        if low <= high:
            prompts = min(max(prompt.wanted, low), high)
            lost = max(0, prompt.wanted - prompts) + max(0, token.wanted - tokens)
            found = (lost, prompts + tokens, prompts, tokens)
            best = found if best is None else min(best, found)
    return best[2:] if best else None


def _spread(pools: Pools, made: dict[str, Decision], role: Role, total: int) -> None:
    """Gives a role's pools so many workers: what is more or less goes to the first with room."""
    change = total - sum(
        made[name].replicas if name in made else pool.counts.desired
        for name, pool in pools.items()
        if pool.role is role
    )
    for name, pool in pools.items():
        if change and pool.role is role and pool.law is not None:
            was = made[name]
            now = min(max(was.replicas + change, max(1, pool.law.least)), pool.law.most)
            change -= now - was.replicas
            if now != was.replicas:
                made[name] = replace(was, replicas=now, reason=Reason.RATIO)
