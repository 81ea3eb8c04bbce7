"""What the models check in code, said again as CEL: a rule, and what the user is told.

Defaults are filled in before rules are checked, but not those within a mapping that is a default.
"""

from typing import Final

from splitwise_core.spec_transfer import RDMA_IN_THE_CLEAR

POOL_RULES: Final = (
    (
        "!(has(self.replicas) && has(self.autoscaling))",
        "replicas: autoscaling says how many too; leave out one of them",
    ),
)
AUTOSCALING_RULES: Final = (
    (
        "self.minReplicas <= self.maxReplicas",
        "minReplicas: it is above maxReplicas; lower it",
    ),
    (
        "self.by != 'External' || self.minReplicas > 0",
        "minReplicas: by External it is at least 1; write by: Load for 0",
    ),
    (
        "self.by != 'SLO' || has(self.slo)",
        "slo: by SLO needs targets; say ttftSeconds and tbtSeconds",
    ),
    (
        "self.by == 'SLO' || !has(self.slo)",
        "slo: only by SLO uses it; write by: SLO, or leave it out",
    ),
    (
        "!has(self.schedule) || self.schedule.all(one, one.minReplicas <= self.maxReplicas)",
        "schedule: a minReplicas is above maxReplicas; lower it",
    ),
    (
        "self.by != 'External' || !has(self.schedule) || size(self.schedule) == 0",
        "schedule: by External uses none; write by: Load, or leave it out",
    ),
)
_SLEEPS: Final = "(has(pool.autoscaling) && pool.autoscaling.minReplicas == 0)"
SLEEP_ADVICE: Final = (
    "minReplicas: 0 in one pool and not in another; zero is of all pools together: write it in "
    "all of them, or in none"
)
POOLS_SLEEP_RULE: Final = (
    f"self.all(pool, {_SLEEPS}) || !self.exists(pool, {_SLEEPS})",
    SLEEP_ADVICE,
)
SCALED_TO_ZERO_RULE: Final = (
    "self.replicas > 0 || (has(self.sleeps) && self.sleeps)",
    "replicas: 0 is for pools that the operator scales with minReplicas: 0; scale it to 1",
)
RATIO_RULE: Final = ("self.min <= self.max", "min: it is above max; lower it")
SCHEDULING_RULE: Final = (
    "!(has(self.disaggregation) && self.disaggregation == 'Never')"
    " || !has(self.borrowing) || self.borrowing",
    "borrowing: with disaggregation Never all workers serve both phases; leave it out",
)
TOLERATION_RULES: Final = (
    (
        "has(self.key) || self.operator == 'Exists'",
        "operator: without a key it is Exists; write operator: Exists",
    ),
    (
        "self.operator == 'Equal' || !has(self.value) || self.value == ''",
        "value: Exists compares no value; leave it out, or use Equal",
    ),
)
_RDMA_IS_REQUIRED: Final = "(has(self.requireRdma) && self.requireRdma)"
"""The default of the whole mapping is checked as it stands, before its fields get theirs."""
TRANSFER_RULES: Final = (
    (
        f"!{_RDMA_IS_REQUIRED} || has(self.rdma)",
        "rdma: requireRdma needs devices; say which resource the nodes offer",
    ),
    (
        "!(has(self.transport) && self.transport == 'RDMA') || has(self.rdma)",
        "rdma: transport RDMA needs devices; say which the nodes offer",
    ),
    (
        f"!{_RDMA_IS_REQUIRED} || self.transport in ['Auto', 'RDMA']",
        "transport: what is named is no RDMA; use RDMA, or leave out requireRdma",
    ),
    (
        f"!({_RDMA_IS_REQUIRED} || has(self.transport) && self.transport == 'RDMA') || "
        "has(self.tls) && has(self.tls.mode) && self.tls.mode == 'Plaintext'",
        f"tls.mode: {RDMA_IN_THE_CLEAR}",
    ),
)
_OF_SECRET: Final = "has(self.mode) && self.mode == 'Secret'"
TLS_RULES: Final = (
    (
        f"!({_OF_SECRET}) || has(self.secretName)",
        "secretName: mode Secret takes a Secret; say which one",
    ),
    *(
        (
            f"({_OF_SECRET}) || !has(self.{field})",
            f"{field}: only mode Secret uses it; write mode: Secret, or leave it out",
        )
        for field in ("secretName", "serverName")
    ),
)
