"""The autoscaler's looks, decided again: what the operator shows at /scaling, through the law."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from splitwise_core.policy.scaling import Counts, Held, Pool, Reading, State, decide, observe
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator.scaled_pools import ROLES, law_of, ratio_of

Told = dict[str, tuple[int, str]]
"""By pool, the replicas and the reason."""


def decided_then(looks: Sequence[dict[str, Any]]) -> list[Told]:
    """What the operator decided, look by look."""
    return [
        {
            name: (pool["decision"]["replicas"], pool["decision"]["reason"])
            for name, pool in look["pools"].items()
            if pool["decision"] is not None
        }
        for look in looks
    ]


def decided_again(cluster: SplitwiseCluster, looks: Sequence[dict[str, Any]]) -> list[Told]:
    """What the law decides on the same, from no past: `looks` begin with the operator's first."""
    now = datetime.now(UTC)
    laws = {pool.name: law_of(cluster, pool, now) for pool in cluster.spec.pools}
    roles = {pool.name: ROLES[pool.role] for pool in cluster.spec.pools}
    states = {name: State() for name in laws}
    made = []
    for look in looks:
        at_s, pools = look["at_s"], {}
        for name, told in look["pools"].items():
            law, counts = laws[name], Counts(**told["counts"])
            if law is not None:
                states[name] = observe(states[name], law, counts, _reading(told), at_s)
            pools[name] = Pool(counts, roles[name], law, states[name])
        done = decide(pools, ratio_of(cluster), look["held"], at_s)
        states |= {name: state for name, (_, state) in done.items()}
        made.append({name: (one.replicas, one.reason.value) for name, (one, _) in done.items()})
    return made


def _reading(told: dict[str, Any]) -> Reading | None:
    said = told["reading"]
    if said is None:
        return None
    counts = {name: tuple(said[name]) for name in ("ttft_counts", "tbt_counts")}
    return Reading(**(said | {"held": Held(**said["held"])} | counts))
