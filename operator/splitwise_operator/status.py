"""What the status of a cluster and of its pools should say. Pure: records in, plain values out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from splitwise_core.labels import ROUTER, WORKER_ROLES
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator import names
from splitwise_operator.conditions import EXPLAINED, Condition, Reason
from splitwise_operator.kinds import Kind
from splitwise_operator.names import Object
from splitwise_operator.observed import CRASHING, Pod, Scaled, Seen, Workers
from splitwise_operator.scaled_pools import ScalingView
from splitwise_operator.transfer import cut_off

_TRUE, _FALSE, _UNKNOWN = "True", "False", "Unknown"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps the operator from making the cluster as it should be."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class PoolCount:
    """Pods of a pool, or of the routers."""

    name: str
    role: str
    desired: int
    current: int
    ready: int
    updated: int
    draining: int
    scaled_by: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether as many are ready as there should be."""
        return self.ready >= self.desired

    @property
    def is_settled(self) -> bool:
        """Whether nothing is to be added, replaced or removed."""
        exact = self.updated == self.current == self.desired
        return exact and self.is_ready and not self.draining


@dataclass(frozen=True, slots=True)
class View:
    """Everything that status is made from."""

    cluster: SplitwiseCluster
    revision: str
    pools: Sequence[PoolCount]
    router: PoolCount
    objects: Sequence[Seen]
    problems: Sequence[Problem]
    transfer: Sequence[Object] = ()
    scaling: ScalingView = field(default_factory=ScalingView)
    advice: Object | None = None


@dataclass(frozen=True, slots=True)
class _Verdict:
    status: str
    reason: Reason
    message: str = ""


def count(objects: Iterable[Seen], pool: str, role: str, desired: int, revision: str) -> PoolCount:
    """A pool's pods; those that leave are draining and count as nothing else."""
    pods = [one for one in objects if isinstance(one.part, Pod) and one.pool == pool]
    staying = [one for one in pods if not one.is_leaving]
    ready = [one for one in staying if isinstance(one.part, Pod) and one.part.ready]
    scaled = next((o.part for o in objects if isinstance(o.part, Scaled) and o.pool == pool), None)
    return PoolCount(
        name=pool,
        role=role,
        desired=desired,
        current=len(staying),
        ready=len(ready),
        updated=sum(one.revision == revision for one in ready),
        draining=len(pods) - len(staying),
        scaled_by=scaled.by if scaled is not None else "Spec",
    )


def cluster_status(view: View, generation: int, before: Object, now: str) -> Object:
    """The whole status; `before` is the one that there is, for the times of transitions."""
    cluster = view.cluster
    host = f"{names.object_name(cluster, ROUTER)}.{cluster.metadata.namespace}.svc"
    return {
        "observedGeneration": generation,
        "revision": view.revision,
        "endpoint": f"http://{host}:{cluster.spec.router.port}",
        "workers": _by_role(view.pools),
        "pools": [_pool(pool) for pool in view.pools],
        "router": {"desired": view.router.desired, "ready": view.router.ready},
        **({"transfer": list(view.transfer)} if view.transfer else {}),
        **({"scaling": list(view.scaling.last)} if view.scaling.last else {}),
        **({"advice": view.advice} if view.advice else {}),
        "conditions": conditions(_verdicts(view), generation, before, now),
    }


def invalid_status(problem: Problem, generation: int, before: Object, now: str) -> Object:
    """The status of a cluster whose spec cannot be made: what runs goes on as it is."""
    verdict = _Verdict(_FALSE, problem.reason, problem.message)
    said = {Condition.READY: verdict, Condition.PROGRESSING: verdict}
    kept = [c for c in before.get("conditions", []) if c["type"] not in said]
    made = conditions(said, generation, before, now)
    return before | {"observedGeneration": generation, "conditions": [*kept, *made]}


def pool_status(cluster: SplitwiseCluster, pool: PoolCount) -> Object:
    """The status of a SplitwisePool, as the scale subresource reads it."""
    chosen = names.selector(cluster, pool.name)
    return {
        "replicas": pool.current,
        "readyReplicas": pool.ready,
        "selector": ",".join(f"{key}={value}" for key, value in chosen.items()),
    }


def conditions(
    verdicts: Mapping[Condition, _Verdict], generation: int, before: Object, now: str
) -> list[Object]:
    """Conditions as Kubernetes writes them; a time moves only when the status does."""
    old = {c["type"]: c for c in before.get("conditions", [])}
    made = []
    for condition, verdict in verdicts.items():
        was = old.get(condition.value, {})
        is_same = was.get("status") == verdict.status
        fix = EXPLAINED[verdict.reason].fix if verdict.status != _TRUE else ""
        words = verdict.message or EXPLAINED[verdict.reason].meaning
        made.append(
            {
                "type": condition.value,
                "status": verdict.status,
                "reason": verdict.reason.value,
                "message": f"{words} Fix: {fix}." if fix else words,
                "lastTransitionTime": was["lastTransitionTime"] if is_same else now,
                "observedGeneration": generation,
            }
        )
    return made


def status_body(namespace: str, kind: Kind, name: str, status: Object) -> Object:
    """The object to apply for a status."""
    where = {"name": name, "namespace": namespace}
    return {
        "apiVersion": kind.api_version,
        "kind": kind.name,
        "metadata": where,
        "status": status,
    }


def _by_role(pools: Sequence[PoolCount]) -> dict[str, str]:
    made = {}
    for role in WORKER_ROLES:
        there = [pool for pool in pools if pool.role == role]
        if there:
            made[role] = f"{sum(p.ready for p in there)}/{sum(p.desired for p in there)}"
    return made


def _pool(pool: PoolCount) -> dict[str, Any]:
    return {
        "name": pool.name,
        "role": pool.role,
        "desired": pool.desired,
        "current": pool.current,
        "ready": pool.ready,
        "updated": pool.updated,
        "draining": pool.draining,
        "scaledBy": pool.scaled_by,
    }


# ---- verdicts ----


def _verdicts(view: View) -> dict[Condition, _Verdict]:
    pools = _readiness(view, view.pools)
    router = _readiness(view, [view.router])
    if pools.status != _TRUE:
        whole = _Verdict(_FALSE, Reason.POOLS_NOT_READY, pools.message)
    elif router.status != _TRUE:
        whole = _Verdict(_FALSE, Reason.ROUTER_NOT_READY, router.message)
    else:
        asleep = not any(pool.desired for pool in view.pools)
        whole = _Verdict(_TRUE, Reason.ASLEEP if asleep else Reason.SERVING)
    return {
        Condition.READY: whole,
        Condition.POOLS_READY: pools,
        Condition.ROUTER_READY: router,
        Condition.TRANSFER_VERIFIED: _transfer(view),
        Condition.SCALING_ACTIVE: _scaling(view),
        Condition.CAPACITY_AVAILABLE: _capacity(view),
        Condition.PROGRESSING: _progress(view),
    }


def _called(pool: PoolCount) -> str:
    return "routers" if pool.role == ROUTER else f"pool {pool.name}"


def _readiness(view: View, pools: Sequence[PoolCount]) -> _Verdict:
    late = [pool for pool in pools if not pool.is_ready]
    if not late:
        return _Verdict(_TRUE, Reason.ALL_READY)
    said = "; ".join(f"{_called(pool)}: {pool.ready} of {pool.desired} ready" for pool in late)
    for one in view.objects:
        if isinstance(one.part, Pod) and one.part.trouble and one.pool in {p.name for p in late}:
            trouble = one.part.trouble
            crashes = trouble.reason == CRASHING
            reason = Reason.CONTAINER_FAILING if crashes else Reason.IMAGE_FAILED
            return _Verdict(_FALSE, reason, f"{said}; pod {one.name}, {trouble.message}.")
    if _capacity(view).status != _TRUE:
        return _Verdict(_FALSE, Reason.NO_ROOM, f"{said}.")
    return _Verdict(_FALSE, Reason.STARTING, f"{said}.")


def _transfer(view: View) -> _Verdict:
    if broken := cut_off(view.transfer):
        said = (f"{one['from']} to {one['to']} ({one.get('reason', '')})" for one in broken)
        return _Verdict(_FALSE, Reason.LINKS_FAILING, f"No KV gets from {', '.join(said)}.")
    served = {pool.role for pool in view.pools if pool.ready}
    phases = all(served & {phase, "mixed"} for phase in ("prompt", "token"))
    if phases and view.transfer:
        return _Verdict(_TRUE, Reason.LINKS_MEASURED)
    if phases:
        return _Verdict(_TRUE, Reason.PROBES_PASSED)
    return _Verdict(_UNKNOWN, Reason.NOT_PROBED)


def _capacity(view: View) -> _Verdict:
    for problem in view.problems:
        if problem.reason is Reason.QUOTA_EXCEEDED:
            return _Verdict(_FALSE, problem.reason, problem.message)
    for one in view.objects:
        part = one.part
        if isinstance(part, Workers) and part.refused:
            quota = "exceeded quota" in part.refused
            reason = Reason.QUOTA_EXCEEDED if quota else Reason.PODS_REFUSED
            return _Verdict(_FALSE, reason, f"Deployment {one.name}: {part.refused}.")
    for one in view.objects:
        if isinstance(one.part, Pod) and one.part.unschedulable and not one.is_leaving:
            words = one.part.unschedulable
            return _Verdict(_FALSE, Reason.UNSCHEDULABLE, f"Pool {one.pool}, {one.name}: {words}")
    if view.scaling.short:
        said = ", ".join(view.scaling.short)
        return _Verdict(_FALSE, Reason.CAPACITY_MISSING, f"Short of nodes: {said}.")
    return _Verdict(_TRUE, Reason.SCHEDULED)


def _scaling(view: View) -> _Verdict:
    if view.scaling.silent:
        said = ", ".join(view.scaling.silent)
        return _Verdict(_UNKNOWN, Reason.LOAD_UNKNOWN, f"No load is known of: {said}.")
    return _Verdict(_TRUE, Reason.REPLICAS_SETTABLE)


def _to_go(view: View) -> list[str]:
    """Deployments of a pool that the spec no longer has, or of another revision."""
    pools = {pool.name for pool in (*view.pools, view.router)}
    return sorted(
        one.name
        for one in view.objects
        if isinstance(one.part, Workers)
        and (one.pool not in pools or one.revision not in ("", view.revision))
    )


def _progress(view: View) -> _Verdict:
    if view.problems:
        problem = view.problems[0]
        return _Verdict(_FALSE, problem.reason, problem.message)
    waiting = [pool for pool in (*view.pools, view.router) if not pool.is_settled]
    others = any(one.revision not in ("", view.revision) for one in view.objects)
    if not waiting and (to_go := _to_go(view)):
        reason = Reason.ROLLING_OUT if others else Reason.SCALING
        return _Verdict(_TRUE, reason, f"To go: {', '.join(to_go)}.")
    if not waiting:
        return _Verdict(_FALSE, Reason.COMPLETE)
    said = ", ".join(f"{p.name} {p.updated} of {p.desired}" for p in waiting)
    if others:
        return _Verdict(_TRUE, Reason.ROLLING_OUT, f"Of the new revision are ready: {said}.")
    if not any(pool.ready for pool in (*view.pools, view.router)):
        return _Verdict(_TRUE, Reason.CREATING, f"Ready: {said}.")
    return _Verdict(_TRUE, Reason.SCALING, f"Ready: {said}.")
