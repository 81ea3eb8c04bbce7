"""What a worker counts and shows."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from splitwise_core.metric import POOL, STEP_SECONDS, TOKENS, Component, Metric

QUEUE_REQUESTS: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_worker_queue_requests",
    "Requests whose prompt is not computed yet.",
    POOL,
)
QUEUE_TOKENS: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_worker_queue_tokens",
    "Prompt tokens that wait to be computed.",
    POOL,
)
BACKLOG: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_worker_backlog_seconds",
    "How long the prompt tokens that wait will take, at the measured speed by which routers and "
    "the autoscaler reckon too. 0 while no speed is measured.",
    POOL,
)
RUNNING: Final = Metric(
    Component.WORKER, Gauge, "splitwise_worker_running_sequences", "Sequences that decode.", POOL
)
DECODE_LIMIT: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_worker_decode_limit_sequences",
    "Sequences that may decode together: `maxSequences`, or what `maxTbtSeconds` leaves of them.",
    POOL,
)
KV_BLOCKS: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_kv_blocks",
    "KV blocks by state: `free`; `cached`: free too, and found again by a prompt with the same "
    "beginning until their memory is needed; `used` by sequences that compute or decode; "
    "`reserved` for a transfer that has not ended; `sending` until the peer has verified them.",
    (*POOL, "state"),
)
KV_BYTES: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_kv_bytes",
    "The memory of the KV blocks, by the same states as `splitwise_kv_blocks`.",
    (*POOL, "state"),
)
PREFIX_QUERIED: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_prefix_cache_queried_tokens_total",
    "Tokens of sequences that were looked for in the prefix cache. `saves` says what a hit spares: "
    "`compute`, or the `transfer` from a prompt worker.",
    (*POOL, "saves"),
)
PREFIX_HIT: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_prefix_cache_hit_tokens_total",
    "Of the tokens queried, those that were in the prefix cache.",
    (*POOL, "saves"),
)
PREFIX_EVICTED: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_prefix_cache_evicted_blocks_total",
    "Cached blocks whose memory was given to another sequence. A steady rise beside a low hit rate "
    "says that kvMemory is too small for what repeats.",
    POOL,
)
LAYERWISE_MIN: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_kv_layerwise_min_tokens",
    "Prompts of so many tokens and more are pushed layer by layer while they are computed, shorter "
    "ones at their end: from the speed of the link last pushed over, and what a layer was measured "
    "to cost the prompt.",
    POOL,
)
STEPS: Final = Metric(
    Component.WORKER,
    Histogram,
    "splitwise_worker_step_seconds",
    "Duration of one engine step: of prompts, of tokens, or `mixed`, which is of both.",
    (*POOL, "kind"),
    STEP_SECONDS,
)
STEP_TOKENS: Final = Metric(
    Component.WORKER,
    Histogram,
    "splitwise_worker_step_tokens",
    "Tokens computed in one engine step.",
    (*POOL, "kind"),
    TOKENS,
)
COMPUTED_TOKENS: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_computed_tokens_total",
    "Tokens computed, of prompts or of answers, whatever the kind of step: `prompt` on a token "
    "worker, and `token` on a prompt worker, is work that it was borrowed for.",
    (*POOL, "kind"),
)
BORROWED: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_worker_borrowed_workers",
    "1 while the worker serves the other pool's phase too; the sum is how many of a pool do.",
    POOL,
)
LOANS: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_loans_total",
    "How often the worker was borrowed: its role changed in place, without a restart.",
    POOL,
)
SHOULD_CHANGE: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_worker_misplaced_workers",
    "1 while the worker has been borrowed for `scheduling.repurposeSeconds` and works more for the "
    "other pool than for its own: a proposal to move a replica there.",
    POOL,
)
WORKER_SEQUENCES: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_sequences_total",
    "Sequences that ended here, by outcome.",
    (*POOL, "outcome"),
)
DRAINING: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_draining_workers",
    "1 while the worker takes no new work because it is to end, else 0.",
    POOL,
)
DRAINED: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_drained_sequences_total",
    "Sequences of a worker that drained, by what became of them: it `stays` until its own end, "
    "`moves` to a peer with its KV, or `returns` to its router, which computes it anew elsewhere. "
    "A worker's last words: the log line `drained` has the same numbers.",
    (*POOL, "fate"),
)
BUSY: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_busy_seconds_total",
    "Time the engine's loop spent in rounds with a step, all but waiting for work: its rate is the "
    "utilisation.",
    POOL,
)
MODEL_FLOPS: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_model_flops_total",
    "Estimated: floating point operations that the model's shape asks for of what was computed, "
    "by the kind of step. Over the peak's rate it is the model FLOP utilisation.",
    (*POOL, "kind"),
)
MODEL_BYTES: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_model_read_bytes_total",
    "Estimated: weights and KV that a step must read at least, each once, by the kind of step. "
    "Over the peak's rate it is the model bandwidth utilisation.",
    (*POOL, "kind"),
)
PEAK_FLOPS: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_worker_peak_flops_per_second",
    "What the device could do at most: of the pool's `machine`, else of the vendor's data sheet. "
    "There is no value where neither knows it.",
    POOL,
)
PEAK_BYTES: Final = Metric(
    Component.WORKER,
    Gauge,
    "splitwise_worker_peak_bytes_per_second",
    "What the device's memory could read at most: of the pool's `machine`, else of the vendor's "
    "data sheet. There is no value where neither knows it.",
    POOL,
)
ENERGY: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_energy_joules_total",
    "What the worker's GPU has used since the worker began, measured by `nvml`; or an estimate "
    "from the watts of the pool's `machine`, where the GPU tells nothing. Its rate is the power in "
    "watts. There is no value where neither knows it.",
    (*POOL, "source"),
)
COST: Final = Metric(
    Component.WORKER,
    Counter,
    "splitwise_worker_cost_dollars_total",
    "Estimated: time since the worker began at the `dollarsPerHour` of the pool's `machine`. There "
    "is no value without a price.",
    POOL,
)
