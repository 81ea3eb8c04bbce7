"""Who says how many workers a pool has, and how many that is. Pure.

`replicas` of the cluster's spec is a wish that counts when it is made or changed; what scales the
SplitwisePool meanwhile (`kubectl scale`, an autoscaler) is left alone. To change who decides never
changes the number by itself.
"""

from splitwise_core.spec_pool import Pool
from splitwise_operator.names import Object
from splitwise_operator.observed import Scaled


def desired(pool: Pool, scaled: Scaled | None) -> int:
    """Workers that the pool should have."""
    if scaled is None:
        return pool.seed
    if pool.autoscaling is not None:
        bounds = pool.autoscaling
        return min(max(scaled.replicas, bounds.min_replicas), bounds.max_replicas)
    asked = asked_of(pool)
    if asked is None or scaled.asked == str(asked):
        return max(1, scaled.replicas)
    return asked


def asked_of(pool: Pool) -> int | None:
    """What the cluster's spec asks for; None when it leaves that to others."""
    return pool.replicas


def without_others_replicas(body: Object, scaled: Scaled | None) -> Object:
    """A SplitwisePool to apply, without the replicas that somebody else has set and that hold."""
    if scaled is None or scaled.ours or body["spec"]["replicas"] != scaled.replicas:
        return body
    return body | {"spec": {k: v for k, v in body["spec"].items() if k != "replicas"}}
