"""Channel and server options that every gRPC connection of ours shares."""

from typing import Final

MAX_MESSAGE_BYTES: Final = 8 << 20
"""Bounds one control message: a 131,072-token prompt is 0.4 MiB as packed varints."""

OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A host that vanishes without a reset is noticed after keepalive_time + keepalive_timeout.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    # A restarted pod is found again within this time, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # Nothing else bounds one attempt: on a busy machine a handshake takes longer than 100 ms.
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.so_reuseport", 0),  # a taken port is an error, not a share
)
