"""What a sidecar counts and shows."""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from splitwise_core.metric import POOL, STEP_SECONDS, Component, Metric

TRANSFERS: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_transfers_total",
    "Transfers that ended, by outcome.",
    (*POOL, "direction", "transport", "outcome"),
)
TRANSFER_BYTES: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_transfer_bytes_total",
    "KV bytes moved, repeated pushes counted in.",
    (*POOL, "direction", "transport"),
)
TRANSFER_SECONDS: Final = Metric(
    Component.SIDECAR,
    Histogram,
    "splitwise_kv_transfer_seconds",
    "First byte sent to commit acknowledged.",
    (*POOL, "transport"),
    STEP_SECONDS,
)
TRANSFER_VISIBLE: Final = Metric(
    Component.SIDECAR,
    Histogram,
    "splitwise_kv_transfer_visible_seconds",
    "Time a request waited for its KV after its prompt was done. A rise blames the link.",
    (*POOL, "transport"),
    STEP_SECONDS,
)
REPUSHES: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_repushes_total",
    "Pushes made again because the digests did not match.",
    POOL,
)
DAMAGED_LAYERS: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_damaged_layers_total",
    "Layers that arrived with another digest than they were sent with. None was decoded.",
    POOL,
)
LEFT_OUT: Final = Metric(
    Component.SIDECAR,
    Gauge,
    "splitwise_kv_left_out_transports",
    "1 for a transport that this sidecar has devices for and cannot use: KV moves by a slower one. "
    "The log says why.",
    (*POOL, "transport"),
)
LATE_WRITES: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_late_writes_total",
    "Chunks that arrived for a lease that had ended; they were dropped.",
    POOL,
)
REFUSED_CALLS: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_refused_calls_total",
    "Calls of peers that were refused because they had no right to what they asked for, by reason.",
    (*POOL, "refusal"),
)
KEY_FAILURES: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_key_failures_total",
    "Changes of the file with the capability keys that did not read; the keys before stayed.",
    POOL,
)
FORCED_FENCES: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_forced_fences_total",
    "Senders over NIXL that had memory taken from them, since they did not say that they had "
    "stopped. What they still write is lost.",
    POOL,
)
PROBE: Final = Metric(
    Component.SIDECAR,
    Histogram,
    "splitwise_kv_probe_seconds",
    "Duration of a probe, by outcome: random bytes pushed through this sidecar's own door and "
    "verified. Until one is `ok` the worker gets no work. Not counted among the transfers.",
    (*POOL, "transport", "outcome"),
    STEP_SECONDS,
)
CERTIFICATE_EXPIRY: Final = Metric(
    Component.SIDECAR,
    Gauge,
    "splitwise_kv_certificate_expiry_timestamp_seconds",
    "When the certificate in use expires, in seconds since 1970. Only where KV is encrypted.",
    POOL,
)
CERTIFICATES_REFUSED: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_certificates_refused_total",
    "New certificates that were of no use: the one before stays in use until it expires, and the "
    "log says why.",
    POOL,
)
CONNECTIONS_REFUSED: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_connections_refused_total",
    "Connections that were not let in, by the door's transport: without a certificate of the "
    "cluster, not in TLS at all, or not in HTTP/2 where bytes come over `grpc`. Those that only "
    "connect and say nothing are among them.",
    (*POOL, "transport"),
)
LINK_PROBES: Final = Metric(
    Component.SIDECAR,
    Counter,
    "splitwise_kv_link_probes_total",
    "Measurements of links to other workers' sidecars, by outcome; `no_capacity` and `draining` "
    "are postponed. Not counted among the transfers.",
    (*POOL, "transport", "outcome"),
)
LEASES: Final = Metric(
    Component.SIDECAR,
    Gauge,
    "splitwise_kv_leases",
    "Open leases, by state of the lease.",
    (*POOL, "state"),
)
OLDEST_LEASE: Final = Metric(
    Component.SIDECAR,
    Gauge,
    "splitwise_kv_oldest_lease_seconds",
    "Age of the oldest open lease; 0 without one. More than requests may take says that one leaks.",
    POOL,
)
ATTACHED: Final = Metric(
    Component.SIDECAR,
    Gauge,
    "splitwise_kv_attached_workers",
    "1 while the worker's pool is attached.",
    POOL,
)
