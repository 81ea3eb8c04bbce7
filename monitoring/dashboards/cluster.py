"""One cluster: what each pool does, and whether it is enough."""

from typing import Final

from monitoring.dashboards.board import Board, Row, Variable
from monitoring.dashboards.panels import (
    COUNT,
    PART,
    PER_S,
    REQUESTS_PER_S,
    SECONDS,
    TOKENS,
    TOKENS_PER_S,
    Limits,
    Query,
    lines,
    number,
)
from monitoring.dashboards.promql import Scope, share
from splitwise_core.metrics import router, worker

_SCOPE: Final = Scope(("namespace", "cluster", "pool"))
_POOL: Final = ("pool",)
_BUSY: Final = Limits(look=0.8, bad=0.95)
_KV_TAKEN: Final = "1 - " + share(
    _SCOPE.now(worker.KV_BLOCKS, _POOL, state="free|cached"), _SCOPE.now(worker.KV_BLOCKS, _POOL)
)

_AT_A_GLANCE: Final = Row(
    "At a glance",
    [
        number(
            "Workers",
            "Workers of each pool that a router has a session with.",
            COUNT,
            Query(_SCOPE.now(router.WORKER_SESSIONS, _POOL, how="max"), "{{pool}}"),
            width=6,
        ),
        number(
            "Requests",
            "Requests answered, whatever the answer.",
            REQUESTS_PER_S,
            Query(_SCOPE.rate(router.HTTP_REQUESTS), "requests"),
            width=3,
        ),
        number(
            "In flight",
            "Requests that workers have.",
            COUNT,
            Query(_SCOPE.now(router.INFLIGHT_REQUESTS), "requests"),
            width=3,
        ),
        number(
            "Expected wait",
            "How long a request that came now would wait before it is computed.",
            SECONDS,
            Query(_SCOPE.now(router.EXPECTED_WAIT, how="max"), "wait"),
            width=3,
            limits=Limits(look=1, bad=10),
        ),
        number(
            "TTFT P90",
            "Nine of ten requests had their first token sooner.",
            SECONDS,
            Query(_SCOPE.quantile(0.9, router.TTFT), "P90"),
            width=3,
        ),
        number(
            "TBT P90",
            "Nine of ten tokens came sooner after the one before.",
            SECONDS,
            Query(_SCOPE.quantile(0.9, router.TBT), "P90"),
            width=3,
        ),
        number(
            "Output",
            "Tokens streamed to clients.",
            TOKENS_PER_S,
            Query(_SCOPE.rate(router.OUTPUT_TOKENS), "tokens"),
            width=3,
        ),
    ],
)

_POOLS: Final = Row(
    "Pools",
    [
        lines(
            "Utilisation",
            "The part of its time that an engine spends in steps, as a mean over the workers of a "
            "pool.",
            PART,
            Query(_SCOPE.rate(worker.BUSY, _POOL, how="avg"), "{{pool}}"),
            limits=_BUSY,
            most=1,
        ),
        lines(
            "KV memory taken",
            "The part of a pool's KV blocks that are neither free nor only cached. At 100 % "
            "requests wait for room.",
            PART,
            Query(_KV_TAKEN, "{{pool}}"),
            limits=_BUSY,
            most=1,
        ),
        lines(
            "Busiest and idlest worker",
            "Utilisation of the busiest and of the idlest worker of each pool: far apart, "
            "placement is uneven, or a worker is slow.",
            PART,
            Query(_SCOPE.rate(worker.BUSY, _POOL, how="max"), "{{pool}} busiest"),
            Query(_SCOPE.rate(worker.BUSY, _POOL, how="min"), "{{pool}} idlest"),
            most=1,
        ),
        lines(
            "KV blocks by state",
            "`cached` ones are free too; `reserved` ones wait for a transfer, `sending` ones for "
            "the peer to verify it.",
            COUNT,
            Query(_SCOPE.now(worker.KV_BLOCKS, ("pool", "state")), "{{pool}} {{state}}"),
            stacked=True,
        ),
    ],
)

_QUEUES: Final = Row(
    "Queues",
    [
        lines(
            "Requests that wait",
            "At the router for capacity, and at workers for their prompt to be computed.",
            COUNT,
            Query(_SCOPE.now(router.QUEUED_REQUESTS), "router"),
            Query(_SCOPE.now(worker.QUEUE_REQUESTS, _POOL), "{{pool}}"),
        ),
        lines(
            "Prompt tokens that wait",
            "Tokens of prompts that are placed on a worker and not computed yet.",
            TOKENS,
            Query(_SCOPE.now(worker.QUEUE_TOKENS, _POOL), "{{pool}}"),
        ),
        lines(
            "Sequences that decode",
            "And how many may, by `maxSequences` and `maxTbtSeconds`.",
            COUNT,
            Query(_SCOPE.now(worker.RUNNING, _POOL), "{{pool}}"),
            Query(_SCOPE.now(worker.DECODE_LIMIT, _POOL), "{{pool}} may"),
        ),
        lines(
            "Expected wait",
            "How long a request that came now would wait before it is computed; beyond "
            "`router.maxQueueSeconds` it is turned away.",
            SECONDS,
            Query(_SCOPE.now(router.EXPECTED_WAIT, how="max"), "wait"),
        ),
    ],
)

_REPLICAS: Final = Row(
    "Replicas",
    [
        lines(
            "Workers",
            "Workers that a router has a session with, and those of them that drain.",
            COUNT,
            Query(_SCOPE.now(router.WORKER_SESSIONS, _POOL, how="max"), "{{pool}}"),
            Query(_SCOPE.now(worker.DRAINING, _POOL), "{{pool}} draining"),
        ),
        lines(
            "Borrowed workers",
            "Workers that serve the other pool's phase too, for the moment. Those that are "
            "misplaced have done so for long, and should change pools.",
            COUNT,
            Query(_SCOPE.now(worker.BORROWED, _POOL), "{{pool}} borrowed"),
            Query(_SCOPE.now(worker.SHOULD_CHANGE, _POOL), "{{pool}} misplaced"),
        ),
    ],
)

_LATENCY: Final = Row(
    "Latency",
    [
        lines(
            "Time to first token",
            "Arrival of a request to its first token, as sent to the client.",
            SECONDS,
            *(Query(_SCOPE.quantile(q / 100, router.TTFT), f"P{q}") for q in (50, 90, 99)),
            width=8,
        ),
        lines(
            "Time between tokens",
            "Between two tokens of one request, as sent to the client.",
            SECONDS,
            *(Query(_SCOPE.quantile(q / 100, router.TBT), f"P{q}") for q in (50, 90, 99)),
            width=8,
        ),
        lines(
            "Whole requests",
            "Arrival of a request to its last token.",
            SECONDS,
            *(Query(_SCOPE.quantile(q / 100, router.E2E), f"P{q}") for q in (50, 90, 99)),
            width=8,
        ),
    ],
)

_WORK: Final = Row(
    "Work",
    [
        lines(
            "Tokens computed",
            "By the kind of step: `prompt` on a token pool, and `token` on a prompt pool, is "
            "borrowed work.",
            TOKENS_PER_S,
            Query(_SCOPE.rate(worker.COMPUTED_TOKENS, ("pool", "kind")), "{{pool}} {{kind}}"),
            width=8,
        ),
        lines(
            "Step time, P90",
            "Nine of ten engine steps were shorter.",
            SECONDS,
            Query(_SCOPE.quantile(0.9, worker.STEPS, ("pool", "kind")), "{{pool}} {{kind}}"),
            width=8,
        ),
        lines(
            "Tokens in a step",
            "The mean batch: of decode steps it is how many sequences share one pass.",
            TOKENS,
            Query(_SCOPE.mean(worker.STEP_TOKENS, ("pool", "kind")), "{{pool}} {{kind}}"),
            width=8,
        ),
        lines(
            "Found in the prefix cache",
            "The part of tokens that had not to be computed, or not to be moved.",
            PART,
            Query(
                share(
                    _SCOPE.rate(worker.PREFIX_HIT, ("pool", "saves")),
                    _SCOPE.rate(worker.PREFIX_QUERIED, ("pool", "saves")),
                ),
                "{{pool}} {{saves}}",
            ),
            width=8,
            most=1,
        ),
        lines(
            "Cached blocks lost",
            "Cached blocks whose memory another sequence got. A steady rise beside a low hit rate "
            "says that kvMemory is small for what repeats.",
            PER_S,
            Query(_SCOPE.rate(worker.PREFIX_EVICTED, _POOL), "{{pool}}"),
            width=8,
        ),
        lines(
            "Placements",
            "Where requests were placed, by reason.",
            PER_S,
            Query(_SCOPE.events(router.PLACEMENTS, "reason"), "{{reason}}"),
            width=8,
        ),
    ],
)

_TROUBLE: Final = Row(
    "What went otherwise",
    [
        lines(
            "Answers by HTTP status",
            "200 and what else there was.",
            REQUESTS_PER_S,
            Query(_SCOPE.events(router.HTTP_REQUESTS, "status"), "{{status}}"),
            width=8,
        ),
        lines(
            "Turned away",
            "Requests answered with 429, by reason. A rise asks for replicas.",
            REQUESTS_PER_S,
            Query(_SCOPE.events(router.REJECTED_REQUESTS, "reason"), "{{reason}}"),
            width=8,
        ),
        lines(
            "Made again on other workers",
            "Attempts that failed, by what went wrong; the client sees a pause.",
            PER_S,
            Query(_SCOPE.events(router.RETRIES, "reason"), "{{reason}}"),
            width=8,
        ),
        lines(
            "Sequences by outcome",
            "How they ended at workers. `completed` and `cancelled` are no failures.",
            PER_S,
            Query(_SCOPE.events(worker.WORKER_SEQUENCES, "outcome"), "{{outcome}}"),
            width=8,
        ),
        lines(
            "Sequences of workers that drain",
            "What becomes of them: they stay, move to a peer with their KV, or return to the "
            "router and are computed anew.",
            PER_S,
            Query(_SCOPE.events(worker.DRAINED, "fate"), "{{fate}}"),
            width=8,
        ),
        lines(
            "Streams that move",
            "Streams that go on from a peer, because their worker drains.",
            PER_S,
            Query(_SCOPE.events(router.MOVES, "move"), "{{move}}"),
            width=8,
        ),
    ],
)

CLUSTER: Final = Board(
    "splitwise-cluster",
    "Splitwise / Cluster",
    "One cluster: utilisation, queues, replicas and latency by pool.",
    [Variable("namespace", several=False), Variable("cluster", several=False), Variable("pool")],
    [_AT_A_GLANCE, _POOLS, _QUEUES, _REPLICAS, _LATENCY, _WORK, _TROUBLE],
)
