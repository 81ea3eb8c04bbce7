"""From a cluster's spec and objects to what the autoscaling law is told of its pools. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from splitwise_core.labels import ROUTER
from splitwise_core.policy.admission import COMMITTED_SHARE
from splitwise_core.policy.roles import ROLES, Role
from splitwise_core.policy.scaling import Counts, Decision, Held, Law, Ratio, Slo
from splitwise_core.spec import SplitwiseCluster
from splitwise_core.spec_autoscaling import DAYS, Period
from splitwise_core.spec_pool import Pool
from splitwise_operator.fleet import Objects, scaled_of
from splitwise_operator.names import WORKER_STATUS_PORT, Object
from splitwise_operator.observed import Pod, Seen
from splitwise_operator.pages import url_host

LAST: Final = 10
"""Decisions of a cluster that its status keeps."""

_PHASES: Final = {Role.PROMPT: (0,), Role.TOKEN: (1,), Role.MIXED: (0, 1)}


def is_ours(cluster: SplitwiseCluster) -> bool:
    """Whether the operator scales any pool of it."""
    return any(pool.autoscaling and pool.autoscaling.is_ours for pool in cluster.spec.pools)


def law_of(cluster: SplitwiseCluster, pool: Pool, now: datetime) -> Law | None:
    """What the law is told of a pool at this time; None when somebody else scales it."""
    asked = pool.autoscaling
    if asked is None or not asked.is_ours:
        return None
    slo = asked.slo
    scheduled = [one.min_replicas for one in asked.schedule if is_within(one, now)]
    return Law(
        role=ROLES[pool.role],
        least=max([asked.min_replicas, *scheduled]),
        most=asked.max_replicas,
        backlog_s=asked.load.backlog_seconds,
        committed_s=COMMITTED_SHARE * cluster.spec.router.max_queue_seconds,
        kv_ratio=asked.load.kv_ratio,
        slo=Slo(slo.ttft_seconds, slo.tbt_seconds, slo.percentile / 100) if slo else None,
        up_window_s=asked.behavior.up_window_seconds,
        down_window_s=asked.behavior.down_window_seconds,
        pending_s=asked.behavior.pending_seconds,
        idle_s=asked.behavior.idle_seconds,
    )


def is_within(period: Period, now: datetime) -> bool:
    """Whether a period that has begun on one of its days goes on."""
    local = now.astimezone(ZoneInfo(period.time_zone))
    clock, overnight = local.strftime("%H:%M"), period.ends <= period.begins
    today, yesterday = DAYS[local.weekday()], DAYS[(local - timedelta(days=1)).weekday()]
    if today in period.days and clock >= period.begins and (overnight or clock < period.ends):
        return True
    return overnight and yesterday in period.days and clock < period.ends


def ratio_of(cluster: SplitwiseCluster) -> Ratio | None:
    """The clamp, as the law takes it."""
    asked = cluster.spec.ratio
    return Ratio(asked.min, asked.max) if asked is not None else None


def counts_of(cluster: SplitwiseCluster, objects: Objects, pool: Pool) -> Counts | None:
    """A pool's workers; None before it has a SplitwisePool."""
    scaled = scaled_of(cluster, objects, pool.name)
    if scaled is None:
        return None
    pods = [(one, part) for one, part in _pods(objects.values(), pool.name) if not one.is_leaving]
    ready = sum(part.ready for _, part in pods)
    warming = sum(not part.ready and part.unschedulable is None for _, part in pods)
    revisions = {one.revision for one, _ in pods}
    return Counts(scaled.replicas, ready, warming, len(revisions) > 1)


def worker_addresses(objects: Objects, pool: str) -> dict[str, str]:
    """Where the ready workers of a pool tell their load, by the pod's name."""
    return {
        one.name: f"http://{url_host(part.address)}:{WORKER_STATUS_PORT}/load"
        for one, part in _pods(objects.values(), pool)
        if part.ready and part.address and not one.is_leaving
    }


def router_addresses(cluster: SplitwiseCluster, objects: Objects, page: str) -> dict[str, str]:
    """Where the routers have a page, by the pod's name."""
    port = cluster.spec.router.port
    return {
        one.name: f"http://{url_host(part.address)}:{port}{page}"
        for one, part in _pods(objects.values(), ROUTER)
        if part.ready and part.address
    }


def shared_out(
    cluster: SplitwiseCluster, held: Held, prompts_waiting: int, reserved: int
) -> dict[str, Held]:
    """By pool, its part of what waits at the routers: pools of one phase have equal parts.

    `prompts_waiting` are requests at prompt workers whose prompts are not computed, `reserved`
    those that token workers keep room for.
    """
    early = min(1.0, prompts_waiting / reserved) if reserved else 0.0
    roles = [ROLES[pool.role] for pool in cluster.spec.pools]
    made = {}
    for pool, role in zip(cluster.spec.pools, roles):
        phase = _PHASES[role][0]
        parts = sum(phase in _PHASES[other] for other in roles)
        made[pool.name] = replace(
            held,
            requests=-(-held.requests // parts),
            prompt_tokens=-(-held.prompt_tokens // parts),
            kv_tokens=-(-held.kv_tokens // parts),
            early=early,
        )
    return made


@dataclass(frozen=True, slots=True)
class ScalingView:
    """What status says of a cluster's scaling: its last decisions, and pools in trouble."""

    last: Sequence[Object] = ()
    silent: Sequence[str] = ()
    short: Sequence[str] = ()


def entry_of(pool: str, before: int, made: Decision, time: str) -> Object:
    """A decision, as status keeps it."""
    return {
        "time": time,
        "pool": pool,
        "from": before,
        "to": made.replicas,
        "reason": made.reason.value,
        "inputs": {name: float(f"{value:.4g}") for name, value in made.inputs.items()},
    }


def _pods(objects: Iterable[Seen], pool: str) -> list[tuple[Seen, Pod]]:
    return [(one, one.part) for one in objects if isinstance(one.part, Pod) and one.pool == pool]
