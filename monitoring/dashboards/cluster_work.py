"""Of one cluster: what its engines compute, at what price, and what went otherwise."""

from typing import Final

from monitoring.dashboards.board import Row
from monitoring.dashboards.panels import (
    DOLLARS,
    JOULES,
    PART,
    PER_S,
    REQUESTS_PER_S,
    SECONDS,
    TOKENS,
    TOKENS_PER_S,
    WATTS,
    Query,
    lines,
)
from monitoring.dashboards.promql import ONE_CLUSTER as SCOPE
from monitoring.dashboards.promql import share
from splitwise_core.metrics import router, worker

_POOL: Final = ("pool",)

WORK: Final = Row(
    "Work",
    [
        lines(
            "Tokens computed",
            "By the kind of step: `prompt` on a token pool, and `token` on a prompt pool, is "
            "borrowed work.",
            TOKENS_PER_S,
            Query(SCOPE.rate(worker.COMPUTED_TOKENS, ("pool", "kind")), "{{pool}} {{kind}}"),
            width=8,
        ),
        lines(
            "Step time, P90",
            "Nine of ten engine steps were shorter.",
            SECONDS,
            Query(SCOPE.quantile(0.9, worker.STEPS, ("pool", "kind")), "{{pool}} {{kind}}"),
            width=8,
        ),
        lines(
            "Tokens in a step",
            "The mean batch: of decode steps it is how many sequences share one pass.",
            TOKENS,
            Query(SCOPE.mean(worker.STEP_TOKENS, ("pool", "kind")), "{{pool}} {{kind}}"),
            width=8,
        ),
        lines(
            "Found in the prefix cache",
            "The part of tokens that had not to be computed, or not to be moved.",
            PART,
            Query(
                share(
                    SCOPE.rate(worker.PREFIX_HIT, ("pool", "saves")),
                    SCOPE.rate(worker.PREFIX_QUERIED, ("pool", "saves")),
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
            Query(SCOPE.rate(worker.PREFIX_EVICTED, _POOL), "{{pool}}"),
            width=8,
        ),
        lines(
            "Placements",
            "Where requests were placed, by reason.",
            PER_S,
            Query(SCOPE.events(router.PLACEMENTS, "reason"), "{{reason}}"),
            width=8,
        ),
    ],
)

EFFICIENCY: Final = Row(
    "Efficiency, as estimated",
    [
        lines(
            "Model FLOP utilisation",
            "What the model's shape asks for of what was computed, of what the devices could do at "
            "most. There is nothing where that is not known: see `machine` of a pool.",
            PART,
            Query(
                share(SCOPE.rate(worker.MODEL_FLOPS, _POOL), SCOPE.now(worker.PEAK_FLOPS, _POOL)),
                "{{pool}}",
            ),
            width=8,
        ),
        lines(
            "Model bandwidth utilisation",
            "Weights and KV that steps must read at least, of what the devices' memory could read "
            "at most. There is nothing where that is not known: see `machine` of a pool.",
            PART,
            Query(
                share(SCOPE.rate(worker.MODEL_BYTES, _POOL), SCOPE.now(worker.PEAK_BYTES, _POOL)),
                "{{pool}}",
            ),
            width=8,
        ),
        lines(
            "Power",
            "Measured by the GPUs (`nvml`), or estimated from the watts of a pool's `machine`.",
            WATTS,
            Query(SCOPE.rate(worker.ENERGY, ("pool", "source")), "{{pool}} {{source}}"),
            width=8,
            stacked=True,
        ),
        lines(
            "Cost per hour",
            "By the price of each pool's `machine`.",
            DOLLARS,
            Query(f"3600 * {SCOPE.rate(worker.COST, _POOL)}", "{{pool}}"),
            width=8,
            stacked=True,
        ),
        lines(
            "Cost of a million output tokens",
            "All of the cluster's machines that have a price, over the tokens streamed.",
            DOLLARS,
            Query(
                f"1e6 * {share(SCOPE.rate(worker.COST), SCOPE.rate(router.OUTPUT_TOKENS))}",
                "cost",
            ),
            width=8,
        ),
        lines(
            "Energy of an output token",
            "All of the cluster's machines whose power is known, over the tokens streamed.",
            JOULES,
            Query(share(SCOPE.rate(worker.ENERGY), SCOPE.rate(router.OUTPUT_TOKENS)), "energy"),
            width=8,
        ),
    ],
)

TROUBLE: Final = Row(
    "What went otherwise",
    [
        lines(
            "Answers by HTTP status",
            "200 and what else there was.",
            REQUESTS_PER_S,
            Query(SCOPE.events(router.HTTP_REQUESTS, "status"), "{{status}}"),
            width=8,
        ),
        lines(
            "Turned away",
            "Requests answered with 429, by reason. A rise asks for replicas.",
            REQUESTS_PER_S,
            Query(SCOPE.events(router.REJECTED_REQUESTS, "reason"), "{{reason}}"),
            width=8,
        ),
        lines(
            "Made again on other workers",
            "Attempts that failed, by what went wrong; the client sees a pause.",
            PER_S,
            Query(SCOPE.events(router.RETRIES, "reason"), "{{reason}}"),
            width=8,
        ),
        lines(
            "Sequences by outcome",
            "How they ended at workers. `completed` and `cancelled` are no failures.",
            PER_S,
            Query(SCOPE.events(worker.WORKER_SEQUENCES, "outcome"), "{{outcome}}"),
            width=8,
        ),
        lines(
            "Sequences of workers that drain",
            "What becomes of them: they stay, move to a peer with their KV, or return to the "
            "router and are computed anew.",
            PER_S,
            Query(SCOPE.events(worker.DRAINED, "fate"), "{{fate}}"),
            width=8,
        ),
        lines(
            "Streams that move",
            "Streams that go on from a peer, because their worker drains.",
            PER_S,
            Query(SCOPE.events(router.MOVES, "move"), "{{move}}"),
            width=8,
        ),
    ],
)
