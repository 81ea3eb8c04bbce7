"""What is there of a cluster's pools, by revision. Pure: records of objects in, counts out."""

from collections.abc import Mapping

from splitwise_core.labels import ROUTER
from splitwise_core.spec import SplitwiseCluster
from splitwise_core.spec_pool import Pool
from splitwise_operator import scale
from splitwise_operator.kinds import POOL
from splitwise_operator.names import object_name
from splitwise_operator.observed import Pod, Scaled, Seen, Workers
from splitwise_operator.rollout import PoolState

Objects = Mapping[tuple[str, str], Seen]
"""(kind, name) -> the record of an object."""


def pool_states(cluster: SplitwiseCluster, objects: Objects, current: str) -> list[PoolState]:
    """The pools of the spec, and those that only have Deployments left.

    Workers of the current revision count as ready once routers have had the time to find them;
    those of another, which may only be taken away, as long as they are.
    """
    listed = {pool.name: pool for pool in cluster.spec.pools}
    sets = [seen for seen in objects.values() if isinstance(seen.part, Workers)]
    there = {seen.pool: seen.role for seen in sets if seen.role != ROUTER}
    roles = there | {pool.name: pool.role for pool in cluster.spec.pools}
    made = []
    for name, role in roles.items():
        pool = listed.get(name)
        wanted = {
            seen.revision: seen.part.wanted
            for seen in sets
            if isinstance(seen.part, Workers) and seen.pool == name and not seen.is_leaving
        }
        desired = _together(cluster, objects, pool) if pool else 0
        ready = {rev: _ready(objects, name, rev) for rev in {*wanted, *_revisions(objects, name)}}
        if current in ready:
            ready[current] = min(ready[current], _settled(objects, name, current))
        made.append(PoolState(name, role, desired, ready, wanted, is_listed=pool is not None))
    return made


def routers_done(cluster: SplitwiseCluster, objects: Objects, current: str) -> bool:
    """Whether all routers are of the current revision, and none of another is left."""
    pods = [seen for seen in objects.values() if seen.pool == ROUTER and seen.kind == "Pod"]
    ready = _ready(objects, ROUTER, current)
    return ready >= cluster.spec.router.replicas and all(pod.revision == current for pod in pods)


def desired_of(cluster: SplitwiseCluster, objects: Objects, pool: Pool) -> int:
    """Workers that a pool should have."""
    return scale.desired(pool, scaled_of(cluster, objects, pool.name))


def _together(cluster: SplitwiseCluster, objects: Objects, pool: Pool) -> int:
    """As `desired_of`, but no pool is at zero before all are to be: their numbers are written one
    by one, and one phase without the other serves nobody."""
    asleep = not any(desired_of(cluster, objects, other) for other in cluster.spec.pools)
    return 0 if asleep else max(1, desired_of(cluster, objects, pool))


def scaled_of(cluster: SplitwiseCluster, objects: Objects, pool: str) -> Scaled | None:
    """A pool's SplitwisePool, if there is one."""
    seen = objects.get((POOL.name, object_name(cluster, pool)))
    return seen.part if seen is not None and isinstance(seen.part, Scaled) else None


def _ready(objects: Objects, pool: str, of_revision: str) -> int:
    return sum(
        seen.part.ready and not seen.is_leaving
        for seen in objects.values()
        if isinstance(seen.part, Pod) and (seen.pool, seen.revision) == (pool, of_revision)
    )


def _settled(objects: Objects, pool: str, of_revision: str) -> int:
    """Those that have been ready for SETTLE_SECONDS, as their Deployment counts them."""
    return sum(
        seen.part.settled
        for seen in objects.values()
        if isinstance(seen.part, Workers) and (seen.pool, seen.revision) == (pool, of_revision)
    )


def _revisions(objects: Objects, pool: str) -> set[str]:
    return {s.revision for s in objects.values() if isinstance(s.part, Pod) and s.pool == pool}
