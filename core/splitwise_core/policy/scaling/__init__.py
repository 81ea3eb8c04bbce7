"""The autoscaling law: what the pools of a cluster said over time in, replicas and reasons out.

The operator calls it every two seconds, and the tests in virtual time; `docs/scaling.md` states it
in prose. What workers say of themselves becomes a pool's `Reading` (signals.py); readings become a
demand in workers (demand.py, slo.py) with what was learnt of their speed (measured.py); the demand
becomes what the pool wishes (pool.py); and all pools' wishes are brought into line (cluster.py).
"""

from splitwise_core.policy.scaling.cluster import Pool, decide
from splitwise_core.policy.scaling.law import Counts, Decision, Law, Ratio, Reason, Slo
from splitwise_core.policy.scaling.pool import State, observe
from splitwise_core.policy.scaling.signals import Held, Reading, WorkerLoad, reading

__all__ = [
    "Counts",
    "Decision",
    "Held",
    "Law",
    "Pool",
    "Ratio",
    "Reading",
    "Reason",
    "Slo",
    "State",
    "WorkerLoad",
    "decide",
    "observe",
    "reading",
]
