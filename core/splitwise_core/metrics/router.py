"""What a router counts and shows."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from splitwise_core.metric import POOL, SECONDS, STEP_SECONDS, Component, Metric

HTTP_REQUESTS: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_http_requests_total",
    "Requests answered, by HTTP status.",
    ("endpoint", "status"),
)
INFLIGHT_REQUESTS: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_inflight_requests",
    "Requests placed on workers and not ended.",
)
QUEUED_REQUESTS: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_queued_requests",
    "Requests that wait at the router for capacity.",
)
PLACEMENTS: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_placements_total",
    "Placement decisions, by reason. A rise of `no-capacity` says that a pool is too small; "
    "`borrowed-token-worker` and `borrowed-prompt-worker`, that one is for the moment.",
    ("reason",),
)
REJECTED_REQUESTS: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_rejected_requests_total",
    "Requests answered with 429: `would-wait` longer than `router.maxQueueSeconds` as they came or "
    "as others went before them, have `waited` for so long, or found the queue full "
    "(`queue-full`). A rise asks for replicas.",
    ("reason",),
)
EXPECTED_WAIT: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_expected_wait_seconds",
    "How long a request that came now would wait, behind all others, before it is computed. What "
    "no speed is measured of counts as 0.",
)
RETRIES: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_retries_total",
    "Attempts that failed and were made again on other workers, by what went wrong. The prompt and "
    "what had been generated are computed anew.",
    ("reason",),
)
MOVES: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_moves_total",
    "Streams that were to go on from a peer, because their worker drained: `moved`, `failed` (the "
    "worker goes on, and asks again), or `needless`, since the stream ended first.",
    ("move",),
)
MOVE_PAUSE: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_move_pause_seconds",
    "Last token of a worker that drained to the first one of the peer that went on. The log has it "
    "with the size of the KV.",
    buckets=SECONDS,
)
MOVED_BYTES: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_moved_kv_bytes_total",
    "KV of streams that moved: what was pushed, without what the peer had in its prefix cache.",
)
KV_BYTES: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_kv_bytes_total",
    "KV that was pushed for requests that have ended well, as their workers told, by transport.",
    ("transport",),
)
TTFT: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_ttft_seconds",
    "Arrival of a request to its first token, as sent to the client.",
    buckets=SECONDS,
)
TBT: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_tbt_seconds",
    "Time between two tokens of one request, as sent to the client.",
    buckets=STEP_SECONDS,
)
E2E: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_e2e_seconds",
    "Arrival of a request to its last token.",
    buckets=SECONDS,
)
STAGE_QUEUE: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_queue_seconds",
    "Arrival at the prompt worker to the start of prefill. A rise asks for prompt workers.",
    buckets=SECONDS,
)
STAGE_PREFILL: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_prefill_seconds",
    "Start of prefill to the first token, at the prompt worker.",
    buckets=SECONDS,
)
STAGE_TRANSFER: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_transfer_seconds",
    "First token to KV verified at the token worker. A rise blames the link, not the GPU.",
    buckets=STEP_SECONDS,
)
STAGE_FIRST_DECODE: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_first_decode_seconds",
    "KV verified to the token worker's first token.",
    buckets=STEP_SECONDS,
)
ROLE_CHANGE: Final = Metric(
    Component.ROUTER,
    Histogram,
    "splitwise_request_role_change_seconds",
    "Placement of a prompt on a token worker that had none to the start of its prefill: how long "
    "it takes to borrow a worker, with the step that it was in.",
    buckets=STEP_SECONDS,
)
SLO_REQUESTS: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_slo_requests_total",
    "Choices that ended, and requests that failed or were turned away for want of capacity, by "
    "whether they kept to the objectives of the spec: time to the first token, mean time between "
    "the answer's tokens, or `all`, which is goodput. Clients' own mistakes, and those that hung "
    "up, count nowhere. There are no values without objectives.",
    ("objective", "verdict"),
)
SLO_TARGET: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_slo_target_seconds",
    "The latencies that the spec asks for, by objective.",
    ("objective",),
)
SLO_PART: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_slo_target_ratio",
    "The part of requests that is to keep to the objectives: the rest is the error budget.",
)
REQUEST_TIMEOUT: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_request_timeout_seconds",
    "After so long a request is ended: no lease is older unless it leaks.",
)
PROMPT_TOKENS: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_prompt_tokens_total",
    "Prompt tokens of accepted requests.",
)
OUTPUT_TOKENS: Final = Metric(
    Component.ROUTER, Counter, "splitwise_router_output_tokens_total", "Tokens streamed to clients."
)
DISCOVERY_FAILURES: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_discovery_failures_total",
    "Failures to list or watch the EndpointSlices that name the workers: `peer_lost` when the API "
    "server cannot be reached, `denied` when it refuses, `expired` when changes were missed. The "
    "workers known before go on serving.",
    ("reason",),
)
KEY_FAILURES: Final = Metric(
    Component.ROUTER,
    Counter,
    "splitwise_router_key_failures_total",
    "Changes of the file with the capability keys that did not read; the keys before stayed.",
)
WORKER_SESSIONS: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_worker_sessions",
    "Workers with an open session.",
    POOL,
)
PROMPT_SPEED: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_worker_prompt_tokens_per_second",
    "How fast a worker computes prompts while some wait, as workers say: the mean of those of the "
    "pool that know. 0 while none does.",
    POOL,
)
LINK_RATE: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_link_bytes_per_second",
    "KV bytes per second that a link between two pools moves, digests counted in: the median of "
    "the links that work. A fall asks whether the transport has changed, or the network.",
    ("from_pool", "to_pool", "transport"),
)
LINK_LATENCY: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_link_latency_seconds",
    "Duration of a transfer of next to no bytes between two pools: the median of the links.",
    ("from_pool", "to_pool", "transport"),
)
LINK_AGE: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_link_age_seconds",
    "Time since a link between two pools was measured last, by a probe or by a request's transfer.",
    ("from_pool", "to_pool"),
)
LINKS: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_links",
    "Pairs of a prompt and a token worker that may meet: `working`, `failing` (not used while "
    "another pair is there), or `unknown` until they are measured.",
    ("from_pool", "to_pool", "state"),
)
CUT_OFF_WORKERS: Final = Metric(
    Component.ROUTER,
    Gauge,
    "splitwise_router_cut_off_workers",
    "Workers all of whose links have failed for a minute: ready, and of no use to the other phase. "
    "The router's log names them.",
    POOL,
)
