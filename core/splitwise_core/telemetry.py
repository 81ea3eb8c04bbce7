"""Every metric's name, unit, labels and buckets, once. docs/metrics.md is printed from `METRICS`.

A process makes one `Telemetry` and asks it for the metrics it moves; a metric that is not declared
here cannot be made, and a label that is not declared cannot be set.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from splitwise_core.metric import (
    POOL,
    SECONDS,
    STEP_SECONDS,
    TOKENS,
    Component,
    Metric,
    page,
)

_R, _W, _S, _O = (
    Component.ROUTER,
    Component.WORKER,
    Component.SIDECAR,
    Component.OPERATOR,
)


# ---- router ----
HTTP_REQUESTS: Final = Metric(
    _R,
    Counter,
    "splitwise_router_http_requests_total",
    "Requests answered, by HTTP status.",
    ("endpoint", "status"),
)
INFLIGHT_REQUESTS: Final = Metric(
    _R, Gauge, "splitwise_router_inflight_requests", "Requests placed on workers and not ended."
)
QUEUED_REQUESTS: Final = Metric(
    _R, Gauge, "splitwise_router_queued_requests", "Requests that wait at the router for capacity."
)
PLACEMENTS: Final = Metric(
    _R,
    Counter,
    "splitwise_router_placements_total",
    "Placement decisions, by reason. A rise of `no-capacity` says that a pool is too small.",
    ("reason",),
)
RETRIES: Final = Metric(
    _R,
    Counter,
    "splitwise_router_retries_total",
    "Attempts that failed and were made again on other workers, by what went wrong. The prompt and "
    "what had been generated are computed anew.",
    ("reason",),
)
TTFT: Final = Metric(
    _R,
    Histogram,
    "splitwise_request_ttft_seconds",
    "Arrival of a request to its first token, as sent to the client.",
    buckets=SECONDS,
)
TBT: Final = Metric(
    _R,
    Histogram,
    "splitwise_request_tbt_seconds",
    "Time between two tokens of one request, as sent to the client.",
    buckets=STEP_SECONDS,
)
E2E: Final = Metric(
    _R,
    Histogram,
    "splitwise_request_e2e_seconds",
    "Arrival of a request to its last token.",
    buckets=SECONDS,
)
STAGE_QUEUE: Final = Metric(
    _R,
    Histogram,
    "splitwise_request_queue_seconds",
    "Arrival at the prompt worker to the start of prefill. A rise asks for prompt workers.",
    buckets=SECONDS,
)
STAGE_PREFILL: Final = Metric(
    _R,
    Histogram,
    "splitwise_request_prefill_seconds",
    "Start of prefill to the first token, at the prompt worker.",
    buckets=SECONDS,
)
STAGE_TRANSFER: Final = Metric(
    _R,
    Histogram,
    "splitwise_request_transfer_seconds",
    "First token to KV verified at the token worker. A rise blames the link, not the GPU.",
    buckets=STEP_SECONDS,
)
STAGE_FIRST_DECODE: Final = Metric(
    _R,
    Histogram,
    "splitwise_request_first_decode_seconds",
    "KV verified to the token worker's first token.",
    buckets=STEP_SECONDS,
)
PROMPT_TOKENS: Final = Metric(
    _R, Counter, "splitwise_router_prompt_tokens_total", "Prompt tokens of accepted requests."
)
OUTPUT_TOKENS: Final = Metric(
    _R, Counter, "splitwise_router_output_tokens_total", "Tokens streamed to clients."
)
DISCOVERY_FAILURES: Final = Metric(
    _R,
    Counter,
    "splitwise_router_discovery_failures_total",
    "Failures to list or watch the EndpointSlices that name the workers: `peer_lost` when the API "
    "server cannot be reached, `denied` when it refuses, `expired` when changes were missed. The "
    "workers known before go on serving.",
    ("reason",),
)
WORKER_SESSIONS: Final = Metric(
    _R, Gauge, "splitwise_router_worker_sessions", "Workers with an open session.", POOL
)

# ---- worker ----
QUEUE_REQUESTS: Final = Metric(
    _W,
    Gauge,
    "splitwise_worker_queue_requests",
    "Requests whose prompt is not computed yet.",
    POOL,
)
QUEUE_TOKENS: Final = Metric(
    _W, Gauge, "splitwise_worker_queue_tokens", "Prompt tokens that wait to be computed.", POOL
)
RUNNING: Final = Metric(
    _W, Gauge, "splitwise_worker_running_sequences", "Sequences that decode.", POOL
)
KV_BLOCKS: Final = Metric(
    _W,
    Gauge,
    "splitwise_kv_blocks",
    "KV blocks by state: `free`; `used` by sequences that compute or decode; `reserved` for a "
    "transfer that has not ended; `sending` until the peer has verified them.",
    (*POOL, "state"),
)
STEPS: Final = Metric(
    _W,
    Histogram,
    "splitwise_worker_step_seconds",
    "Duration of one engine step.",
    (*POOL, "kind"),
    STEP_SECONDS,
)
STEP_TOKENS: Final = Metric(
    _W,
    Histogram,
    "splitwise_worker_step_tokens",
    "Tokens computed in one engine step.",
    (*POOL, "kind"),
    TOKENS,
)
COMPUTED_TOKENS: Final = Metric(
    _W,
    Counter,
    "splitwise_worker_computed_tokens_total",
    "Tokens computed, by the kind of step. `prompt` stays 0 on a token worker.",
    (*POOL, "kind"),
)
WORKER_SEQUENCES: Final = Metric(
    _W,
    Counter,
    "splitwise_worker_sequences_total",
    "Sequences that ended here, by outcome.",
    (*POOL, "outcome"),
)
BUSY: Final = Metric(
    _W,
    Counter,
    "splitwise_worker_busy_seconds_total",
    "Time the engine spent in steps; its rate is the utilisation.",
    POOL,
)

# ---- sidecar ----
TRANSFERS: Final = Metric(
    _S,
    Counter,
    "splitwise_kv_transfers_total",
    "Transfers that ended, by outcome.",
    (*POOL, "direction", "transport", "outcome"),
)
TRANSFER_BYTES: Final = Metric(
    _S,
    Counter,
    "splitwise_kv_transfer_bytes_total",
    "KV bytes moved, repeated pushes counted in.",
    (*POOL, "direction", "transport"),
)
TRANSFER_SECONDS: Final = Metric(
    _S,
    Histogram,
    "splitwise_kv_transfer_seconds",
    "First byte sent to commit acknowledged.",
    (*POOL, "transport"),
    STEP_SECONDS,
)
TRANSFER_VISIBLE: Final = Metric(
    _S,
    Histogram,
    "splitwise_kv_transfer_visible_seconds",
    "Time a request waited for its KV after its prompt was done. A rise blames the link.",
    (*POOL, "transport"),
    STEP_SECONDS,
)
REPUSHES: Final = Metric(
    _S,
    Counter,
    "splitwise_kv_repushes_total",
    "Pushes made again because the digests did not match.",
    POOL,
)
DAMAGED_LAYERS: Final = Metric(
    _S,
    Counter,
    "splitwise_kv_damaged_layers_total",
    "Layers that arrived with another digest than they were sent with. None was decoded.",
    POOL,
)
LATE_WRITES: Final = Metric(
    _S,
    Counter,
    "splitwise_kv_late_writes_total",
    "Chunks that arrived for a lease that had ended; they were dropped.",
    POOL,
)
PROBE: Final = Metric(
    _S,
    Histogram,
    "splitwise_kv_probe_seconds",
    "Duration of a probe, by outcome: random bytes pushed through this sidecar's own door and "
    "verified. Until one is `ok` the worker gets no work. Not counted among the transfers.",
    (*POOL, "transport", "outcome"),
    STEP_SECONDS,
)
LEASES: Final = Metric(
    _S, Gauge, "splitwise_kv_leases", "Open leases, by state of the lease.", (*POOL, "state")
)
ATTACHED: Final = Metric(
    _S, Gauge, "splitwise_kv_attached_workers", "1 while the worker's pool is attached.", POOL
)

# ---- operator ----
CLUSTERS: Final = Metric(
    _O, Gauge, "splitwise_operator_clusters", "SplitwiseClusters that this operator looks after."
)
RECONCILE: Final = Metric(
    _O,
    Histogram,
    "splitwise_operator_reconcile_seconds",
    "One look at one cluster with all its writes. `incomplete` and `failed` are tried again.",
    ("result",),
    SECONDS,
)
WRITES: Final = Metric(
    _O,
    Counter,
    "splitwise_operator_writes_total",
    "Writes to the API server. It stands still while nothing changes.",
    ("verb",),
)
WATCH_FAILURES: Final = Metric(
    _O,
    Counter,
    "splitwise_operator_watch_failures_total",
    "Watches of the API server that broke or could not be opened.",
)

METRICS: Final[tuple[Metric, ...]] = tuple(
    value for value in globals().values() if isinstance(value, Metric)
)


class Telemetry:
    """The metrics of one process, in a registry of their own.

    `role` and `pool` are filled in where a caller does not name them.
    """

    def __init__(self, component: Component, role: str = "", pool: str = "") -> None:
        self.registry = CollectorRegistry()
        self._fixed = {"role": role, "pool": pool}
        self._made: dict[str, MetricWrapperBase] = {}
        for metric in METRICS:
            if metric.component is component:
                self._made[metric.name] = self._make(metric)

    def _make(self, metric: Metric) -> MetricWrapperBase:
        if metric.kind is Histogram:
            return Histogram(
                metric.name,
                metric.help,
                metric.labels,
                registry=self.registry,
                buckets=metric.buckets,
            )
        return metric.kind(metric.name, metric.help, metric.labels, registry=self.registry)

    def _child(self, metric: Metric, labels: dict[str, str]) -> MetricWrapperBase:
        made = self._made[metric.name]
        if not metric.labels:
            return made
        fixed = {name: self._fixed[name] for name in POOL if name in metric.labels}
        return made.labels(**(fixed | labels))

    def counter(self, metric: Metric, **labels: str) -> Counter:
        """The counter `metric` with these labels."""
        child = self._child(metric, labels)
        assert isinstance(child, Counter)
        return child

    def gauge(self, metric: Metric, **labels: str) -> Gauge:
        """The gauge `metric` with these labels."""
        child = self._child(metric, labels)
        assert isinstance(child, Gauge)
        return child

    def histogram(self, metric: Metric, **labels: str) -> Histogram:
        """The histogram `metric` with these labels."""
        child = self._child(metric, labels)
        assert isinstance(child, Histogram)
        return child


def reference() -> str:
    """docs/metrics.md: every metric with its type, labels and meaning."""
    return page(METRICS)
