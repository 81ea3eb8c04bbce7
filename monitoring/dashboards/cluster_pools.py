"""Of one cluster: what its pools are busy with, what waits for them, and their replicas."""

from typing import Final

from monitoring.dashboards.alike import BUSY, kv_taken
from monitoring.dashboards.board import Row
from monitoring.dashboards.panels import BYTES, COUNT, PART, SECONDS, TOKENS, Query, lines
from monitoring.dashboards.promql import ONE_CLUSTER as SCOPE
from splitwise_core.metrics import operator, router, worker

_POOL: Final = ("pool",)

POOLS: Final = Row(
    "Pools",
    [
        lines(
            "Utilisation",
            "The part of its time that an engine spends in steps, as a mean over the workers of a "
            "pool.",
            PART,
            Query(SCOPE.rate(worker.BUSY, _POOL, how="avg"), "{{pool}}"),
            limits=BUSY,
            most=1,
        ),
        lines(
            "KV memory taken",
            "The part of a pool's KV blocks that are neither free nor only cached. At 100 % "
            "requests wait for room.",
            PART,
            Query(kv_taken(SCOPE, _POOL), "{{pool}}"),
            limits=BUSY,
            most=1,
        ),
        lines(
            "Busiest and idlest worker",
            "Utilisation of the busiest and of the idlest worker of each pool: far apart, "
            "placement is uneven, or a worker is slow.",
            PART,
            Query(SCOPE.rate(worker.BUSY, _POOL, how="max"), "{{pool}} busiest"),
            Query(SCOPE.rate(worker.BUSY, _POOL, how="min"), "{{pool}} idlest"),
            most=1,
        ),
        lines(
            "KV memory by state",
            "`cached` blocks are free too; `reserved` ones wait for a transfer, `sending` ones for "
            "the peer to verify it.",
            BYTES,
            Query(SCOPE.now(worker.KV_BYTES, ("pool", "state")), "{{pool}} {{state}}"),
            stacked=True,
        ),
    ],
)

QUEUES: Final = Row(
    "Queues",
    [
        lines(
            "Requests that wait",
            "At the router for capacity, and at workers for their prompt to be computed.",
            COUNT,
            Query(SCOPE.now(router.QUEUED_REQUESTS), "router"),
            Query(SCOPE.now(worker.QUEUE_REQUESTS, _POOL), "{{pool}}"),
        ),
        lines(
            "Prompt tokens that wait",
            "Tokens of prompts that are placed on a worker and not computed yet.",
            TOKENS,
            Query(SCOPE.now(worker.QUEUE_TOKENS, _POOL), "{{pool}}"),
        ),
        lines(
            "Sequences that decode",
            "And how many may, by `maxSequences` and `maxTbtSeconds`.",
            COUNT,
            Query(SCOPE.now(worker.RUNNING, _POOL), "{{pool}}"),
            Query(SCOPE.now(worker.DECODE_LIMIT, _POOL), "{{pool}} may"),
        ),
        lines(
            "Time that waits",
            "How long a request that came now would wait before it is computed (beyond "
            "`router.maxQueueSeconds` it is turned away), and how long the worker with the most "
            "prompts before it will take for them.",
            SECONDS,
            Query(SCOPE.now(router.EXPECTED_WAIT, how="max"), "a request"),
            Query(SCOPE.now(worker.BACKLOG, _POOL, how="max"), "{{pool}}"),
        ),
    ],
)

REPLICAS: Final = Row(
    "Replicas",
    [
        lines(
            "Workers",
            "Workers that a router has a session with, and those that drain. An operator tells how "
            "many are desired, and how many no node takes. Marks are decisions of the autoscaler.",
            COUNT,
            Query(SCOPE.now(router.WORKER_SESSIONS, _POOL, how="max"), "{{pool}}"),
            Query(SCOPE.now(worker.DRAINING, _POOL), "{{pool}} draining"),
            Query(
                SCOPE.now(operator.POOL_WORKERS, ("pool", "state"), state="desired|unschedulable"),
                "{{pool}} {{state}}",
            ),
        ),
        lines(
            "What the load asks for",
            "The workers that the load of a scaled pool asks for, and its bounds. Above the upper "
            "one the pool is too small for its load.",
            COUNT,
            Query(SCOPE.now(operator.POOL_NEEDED, _POOL), "{{pool}} needs"),
            Query(SCOPE.now(operator.POOL_BOUND, ("pool", "bound")), "{{pool}} at {{bound}}"),
        ),
        lines(
            "Borrowed workers",
            "Workers that serve the other pool's phase too, for the moment. Those that are "
            "misplaced have done so for long, and should change pools.",
            COUNT,
            Query(SCOPE.now(worker.BORROWED, _POOL), "{{pool}} borrowed"),
            Query(SCOPE.now(worker.SHOULD_CHANGE, _POOL), "{{pool}} misplaced"),
            width=8,
        ),
        lines(
            "Prompt work that waits",
            "For each worker of a scaled pool, as the autoscaler reckons it.",
            SECONDS,
            Query(SCOPE.now(operator.POOL_BACKLOG, _POOL), "{{pool}}"),
            width=8,
        ),
        lines(
            "Places taken",
            "The part of a scaled pool's KV memory, or places, that decoding takes or will take, "
            "as the autoscaler reckons it.",
            PART,
            Query(SCOPE.now(operator.POOL_TAKEN, _POOL), "{{pool}}"),
            width=8,
            limits=BUSY,
        ),
    ],
)
