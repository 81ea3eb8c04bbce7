from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    OK: _ClassVar[Outcome]
    NO_CAPACITY: _ClassVar[Outcome]
    STALE_EPOCH: _ClassVar[Outcome]
    UNKNOWN_TRANSFER: _ClassVar[Outcome]
    GEOMETRY_MISMATCH: _ClassVar[Outcome]
    DIGEST_MISMATCH: _ClassVar[Outcome]
    EXPIRED: _ClassVar[Outcome]
    CANCELLED: _ClassVar[Outcome]
    PEER_LOST: _ClassVar[Outcome]
    DENIED: _ClassVar[Outcome]
    TRANSPORT_FAILED: _ClassVar[Outcome]
    INVALID: _ClassVar[Outcome]
    DRAINING: _ClassVar[Outcome]
    FAILED: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
OK: Outcome
NO_CAPACITY: Outcome
STALE_EPOCH: Outcome
UNKNOWN_TRANSFER: Outcome
GEOMETRY_MISMATCH: Outcome
DIGEST_MISMATCH: Outcome
EXPIRED: Outcome
CANCELLED: Outcome
PEER_LOST: Outcome
DENIED: Outcome
TRANSPORT_FAILED: Outcome
INVALID: Outcome
DRAINING: Outcome
FAILED: Outcome

class Geometry(_message.Message):
    __slots__ = ("model", "dtype", "num_layers", "kv_heads", "head_dim", "block_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    NUM_LAYERS_FIELD_NUMBER: _ClassVar[int]
    KV_HEADS_FIELD_NUMBER: _ClassVar[int]
    HEAD_DIM_FIELD_NUMBER: _ClassVar[int]
    BLOCK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    dtype: str
    num_layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int
    def __init__(self, model: _Optional[str] = ..., dtype: _Optional[str] = ..., num_layers: _Optional[int] = ..., kv_heads: _Optional[int] = ..., head_dim: _Optional[int] = ..., block_tokens: _Optional[int] = ...) -> None: ...

class HelloRequest(_message.Message):
    __slots__ = ("worker_id", "geometry_fingerprint", "transports")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    GEOMETRY_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    TRANSPORTS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    geometry_fingerprint: bytes
    transports: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, worker_id: _Optional[str] = ..., geometry_fingerprint: _Optional[bytes] = ..., transports: _Optional[_Iterable[str]] = ...) -> None: ...

class HelloReply(_message.Message):
    __slots__ = ("outcome", "detail", "worker_id", "epoch", "endpoints")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ENDPOINTS_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    detail: str
    worker_id: str
    epoch: int
    endpoints: _containers.RepeatedCompositeFieldContainer[Endpoint]
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., worker_id: _Optional[str] = ..., epoch: _Optional[int] = ..., endpoints: _Optional[_Iterable[_Union[Endpoint, _Mapping]]] = ...) -> None: ...

class Endpoint(_message.Message):
    __slots__ = ("transport", "address")
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    transport: str
    address: str
    def __init__(self, transport: _Optional[str] = ..., address: _Optional[str] = ...) -> None: ...

class Claim(_message.Message):
    __slots__ = ("caller", "write_token", "capability", "proof")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    WRITE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    caller: str
    write_token: bytes
    capability: bytes
    proof: bytes
    def __init__(self, caller: _Optional[str] = ..., write_token: _Optional[bytes] = ..., capability: _Optional[bytes] = ..., proof: _Optional[bytes] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("transfer_id", "epoch", "num_tokens", "wait_ms", "claim")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    epoch: int
    num_tokens: int
    wait_ms: int
    claim: Claim
    def __init__(self, transfer_id: _Optional[str] = ..., epoch: _Optional[int] = ..., num_tokens: _Optional[int] = ..., wait_ms: _Optional[int] = ..., claim: _Optional[_Union[Claim, _Mapping]] = ...) -> None: ...

class ReserveReply(_message.Message):
    __slots__ = ("outcome", "detail", "lease_ms", "held_tokens")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    HELD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    detail: str
    lease_ms: int
    held_tokens: int
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., lease_ms: _Optional[int] = ..., held_tokens: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("epoch", "transfer_ids", "write_tokens")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_IDS_FIELD_NUMBER: _ClassVar[int]
    WRITE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    transfer_ids: _containers.RepeatedScalarFieldContainer[str]
    write_tokens: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, epoch: _Optional[int] = ..., transfer_ids: _Optional[_Iterable[str]] = ..., write_tokens: _Optional[_Iterable[bytes]] = ...) -> None: ...

class RenewReply(_message.Message):
    __slots__ = ("outcome", "unknown")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    unknown: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., unknown: _Optional[_Iterable[str]] = ...) -> None: ...

class LayerDigest(_message.Message):
    __slots__ = ("layer", "xxh3")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    XXH3_FIELD_NUMBER: _ClassVar[int]
    layer: int
    xxh3: int
    def __init__(self, layer: _Optional[int] = ..., xxh3: _Optional[int] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("transfer_id", "epoch", "digests", "output_tokens", "write_token", "streams", "waited_s")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DIGESTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    WRITE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    WAITED_S_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    epoch: int
    digests: _containers.RepeatedCompositeFieldContainer[LayerDigest]
    output_tokens: _containers.RepeatedScalarFieldContainer[int]
    write_token: bytes
    streams: int
    waited_s: float
    def __init__(self, transfer_id: _Optional[str] = ..., epoch: _Optional[int] = ..., digests: _Optional[_Iterable[_Union[LayerDigest, _Mapping]]] = ..., output_tokens: _Optional[_Iterable[int]] = ..., write_token: _Optional[bytes] = ..., streams: _Optional[int] = ..., waited_s: _Optional[float] = ...) -> None: ...

class CommitReply(_message.Message):
    __slots__ = ("outcome", "detail", "bad_layers")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BAD_LAYERS_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    detail: str
    bad_layers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., bad_layers: _Optional[_Iterable[int]] = ...) -> None: ...

class AbortRequest(_message.Message):
    __slots__ = ("transfer_id", "epoch", "reason", "claim")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    epoch: int
    reason: Outcome
    claim: Claim
    def __init__(self, transfer_id: _Optional[str] = ..., epoch: _Optional[int] = ..., reason: _Optional[_Union[Outcome, str]] = ..., claim: _Optional[_Union[Claim, _Mapping]] = ...) -> None: ...

class AbortReply(_message.Message):
    __slots__ = ("outcome", "fenced")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    FENCED_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    fenced: bool
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., fenced: _Optional[bool] = ...) -> None: ...

class OpenProbeRequest(_message.Message):
    __slots__ = ("epoch", "num_tokens", "claim")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    num_tokens: int
    claim: Claim
    def __init__(self, epoch: _Optional[int] = ..., num_tokens: _Optional[int] = ..., claim: _Optional[_Union[Claim, _Mapping]] = ...) -> None: ...

class OpenProbeReply(_message.Message):
    __slots__ = ("outcome", "detail", "transfer_id")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    detail: str
    transfer_id: str
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., transfer_id: _Optional[str] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("peer", "outcome", "detail", "transport", "latency_s", "bytes_per_s", "measured_unix_ms")
    PEER_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_S_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_S_FIELD_NUMBER: _ClassVar[int]
    MEASURED_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    peer: str
    outcome: Outcome
    detail: str
    transport: str
    latency_s: float
    bytes_per_s: float
    measured_unix_ms: int
    def __init__(self, peer: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., transport: _Optional[str] = ..., latency_s: _Optional[float] = ..., bytes_per_s: _Optional[float] = ..., measured_unix_ms: _Optional[int] = ...) -> None: ...

class MeasureLink(_message.Message):
    __slots__ = ("peer", "max_age_s")
    PEER_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_S_FIELD_NUMBER: _ClassVar[int]
    peer: str
    max_age_s: float
    def __init__(self, peer: _Optional[str] = ..., max_age_s: _Optional[float] = ...) -> None: ...

class FromShmSender(_message.Message):
    __slots__ = ("wire_id", "begin", "layers", "end", "commit")
    WIRE_ID_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    wire_id: bytes
    begin: ShmBegin
    layers: ShmLayers
    end: ShmEnd
    commit: CommitRequest
    def __init__(self, wire_id: _Optional[bytes] = ..., begin: _Optional[_Union[ShmBegin, _Mapping]] = ..., layers: _Optional[_Union[ShmLayers, _Mapping]] = ..., end: _Optional[_Union[ShmEnd, _Mapping]] = ..., commit: _Optional[_Union[CommitRequest, _Mapping]] = ...) -> None: ...

class ShmBegin(_message.Message):
    __slots__ = ("epoch", "geometry", "num_blocks", "blocks", "num_tokens", "counter")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GEOMETRY_FIELD_NUMBER: _ClassVar[int]
    NUM_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    geometry: Geometry
    num_blocks: int
    blocks: _containers.RepeatedScalarFieldContainer[int]
    num_tokens: int
    counter: int
    def __init__(self, epoch: _Optional[int] = ..., geometry: _Optional[_Union[Geometry, _Mapping]] = ..., num_blocks: _Optional[int] = ..., blocks: _Optional[_Iterable[int]] = ..., num_tokens: _Optional[int] = ..., counter: _Optional[int] = ...) -> None: ...

class ShmLayers(_message.Message):
    __slots__ = ("layers",)
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, layers: _Optional[_Iterable[int]] = ...) -> None: ...

class ShmEnd(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ShmAnswer(_message.Message):
    __slots__ = ("wire_id", "outcome", "committed", "counters")
    WIRE_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    wire_id: bytes
    outcome: Outcome
    committed: CommitReply
    counters: ShmCounters
    def __init__(self, wire_id: _Optional[bytes] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., committed: _Optional[_Union[CommitReply, _Mapping]] = ..., counters: _Optional[_Union[ShmCounters, _Mapping]] = ...) -> None: ...

class ShmCounters(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FromWorkerToSidecar(_message.Message):
    __slots__ = ("attach", "open_lease", "close_lease", "start_transfer", "layers_ready", "finish_transfer", "withdraw_transfer", "start_probe", "measure_link")
    ATTACH_FIELD_NUMBER: _ClassVar[int]
    OPEN_LEASE_FIELD_NUMBER: _ClassVar[int]
    CLOSE_LEASE_FIELD_NUMBER: _ClassVar[int]
    START_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    LAYERS_READY_FIELD_NUMBER: _ClassVar[int]
    FINISH_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    WITHDRAW_TRANSFER_FIELD_NUMBER: _ClassVar[int]
    START_PROBE_FIELD_NUMBER: _ClassVar[int]
    MEASURE_LINK_FIELD_NUMBER: _ClassVar[int]
    attach: Attach
    open_lease: OpenLease
    close_lease: CloseLease
    start_transfer: StartTransfer
    layers_ready: LayersReady
    finish_transfer: FinishTransfer
    withdraw_transfer: WithdrawTransfer
    start_probe: StartProbe
    measure_link: MeasureLink
    def __init__(self, attach: _Optional[_Union[Attach, _Mapping]] = ..., open_lease: _Optional[_Union[OpenLease, _Mapping]] = ..., close_lease: _Optional[_Union[CloseLease, _Mapping]] = ..., start_transfer: _Optional[_Union[StartTransfer, _Mapping]] = ..., layers_ready: _Optional[_Union[LayersReady, _Mapping]] = ..., finish_transfer: _Optional[_Union[FinishTransfer, _Mapping]] = ..., withdraw_transfer: _Optional[_Union[WithdrawTransfer, _Mapping]] = ..., start_probe: _Optional[_Union[StartProbe, _Mapping]] = ..., measure_link: _Optional[_Union[MeasureLink, _Mapping]] = ...) -> None: ...

class Attach(_message.Message):
    __slots__ = ("worker_id", "geometry", "num_blocks")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    GEOMETRY_FIELD_NUMBER: _ClassVar[int]
    NUM_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    geometry: Geometry
    num_blocks: int
    def __init__(self, worker_id: _Optional[str] = ..., geometry: _Optional[_Union[Geometry, _Mapping]] = ..., num_blocks: _Optional[int] = ...) -> None: ...

class OpenLease(_message.Message):
    __slots__ = ("transfer_id", "blocks", "num_tokens", "lease_ms", "request_id", "held_tokens", "traceparent")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    HELD_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    blocks: _containers.RepeatedScalarFieldContainer[int]
    num_tokens: int
    lease_ms: int
    request_id: str
    held_tokens: int
    traceparent: str
    def __init__(self, transfer_id: _Optional[str] = ..., blocks: _Optional[_Iterable[int]] = ..., num_tokens: _Optional[int] = ..., lease_ms: _Optional[int] = ..., request_id: _Optional[str] = ..., held_tokens: _Optional[int] = ..., traceparent: _Optional[str] = ...) -> None: ...

class CloseLease(_message.Message):
    __slots__ = ("transfer_id",)
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    def __init__(self, transfer_id: _Optional[str] = ...) -> None: ...

class StartTransfer(_message.Message):
    __slots__ = ("transfer_id", "peer", "blocks", "num_tokens", "deadline_unix_ms", "capability", "tell_pushed", "request_id", "traceparent")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_UNIX_MS_FIELD_NUMBER: _ClassVar[int]
    CAPABILITY_FIELD_NUMBER: _ClassVar[int]
    TELL_PUSHED_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    peer: str
    blocks: _containers.RepeatedScalarFieldContainer[int]
    num_tokens: int
    deadline_unix_ms: int
    capability: bytes
    tell_pushed: bool
    request_id: str
    traceparent: str
    def __init__(self, transfer_id: _Optional[str] = ..., peer: _Optional[str] = ..., blocks: _Optional[_Iterable[int]] = ..., num_tokens: _Optional[int] = ..., deadline_unix_ms: _Optional[int] = ..., capability: _Optional[bytes] = ..., tell_pushed: _Optional[bool] = ..., request_id: _Optional[str] = ..., traceparent: _Optional[str] = ...) -> None: ...

class LayersReady(_message.Message):
    __slots__ = ("transfer_id", "first", "count")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    first: int
    count: int
    def __init__(self, transfer_id: _Optional[str] = ..., first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class FinishTransfer(_message.Message):
    __slots__ = ("transfer_id", "output_tokens")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    output_tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, transfer_id: _Optional[str] = ..., output_tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class WithdrawTransfer(_message.Message):
    __slots__ = ("transfer_id", "reason")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    reason: Outcome
    def __init__(self, transfer_id: _Optional[str] = ..., reason: _Optional[_Union[Outcome, str]] = ...) -> None: ...

class StartProbe(_message.Message):
    __slots__ = ("block", "peer")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    block: int
    peer: str
    def __init__(self, block: _Optional[int] = ..., peer: _Optional[str] = ...) -> None: ...

class FromSidecarToWorker(_message.Message):
    __slots__ = ("attached", "lease_verified", "lease_ended", "transfer_ended", "probe_ended", "link", "transfer_pushed")
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    LEASE_VERIFIED_FIELD_NUMBER: _ClassVar[int]
    LEASE_ENDED_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_ENDED_FIELD_NUMBER: _ClassVar[int]
    PROBE_ENDED_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_PUSHED_FIELD_NUMBER: _ClassVar[int]
    attached: Attached
    lease_verified: LeaseVerified
    lease_ended: LeaseEnded
    transfer_ended: TransferEnded
    probe_ended: ProbeEnded
    link: Link
    transfer_pushed: TransferPushed
    def __init__(self, attached: _Optional[_Union[Attached, _Mapping]] = ..., lease_verified: _Optional[_Union[LeaseVerified, _Mapping]] = ..., lease_ended: _Optional[_Union[LeaseEnded, _Mapping]] = ..., transfer_ended: _Optional[_Union[TransferEnded, _Mapping]] = ..., probe_ended: _Optional[_Union[ProbeEnded, _Mapping]] = ..., link: _Optional[_Union[Link, _Mapping]] = ..., transfer_pushed: _Optional[_Union[TransferPushed, _Mapping]] = ...) -> None: ...

class Attached(_message.Message):
    __slots__ = ("outcome", "detail", "epoch")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    detail: str
    epoch: int
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class LeaseVerified(_message.Message):
    __slots__ = ("transfer_id", "output_tokens", "kv_bytes", "transport", "visible_s")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_S_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    output_tokens: _containers.RepeatedScalarFieldContainer[int]
    kv_bytes: int
    transport: str
    visible_s: float
    def __init__(self, transfer_id: _Optional[str] = ..., output_tokens: _Optional[_Iterable[int]] = ..., kv_bytes: _Optional[int] = ..., transport: _Optional[str] = ..., visible_s: _Optional[float] = ...) -> None: ...

class LeaseEnded(_message.Message):
    __slots__ = ("transfer_id", "outcome", "detail")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    outcome: Outcome
    detail: str
    def __init__(self, transfer_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class TransferEnded(_message.Message):
    __slots__ = ("transfer_id", "outcome", "detail", "kv_bytes", "transfer_s", "visible_s", "transport", "pushes", "push_s")
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_S_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_S_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    PUSHES_FIELD_NUMBER: _ClassVar[int]
    PUSH_S_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    outcome: Outcome
    detail: str
    kv_bytes: int
    transfer_s: float
    visible_s: float
    transport: str
    pushes: int
    push_s: float
    def __init__(self, transfer_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., kv_bytes: _Optional[int] = ..., transfer_s: _Optional[float] = ..., visible_s: _Optional[float] = ..., transport: _Optional[str] = ..., pushes: _Optional[int] = ..., push_s: _Optional[float] = ...) -> None: ...

class TransferPushed(_message.Message):
    __slots__ = ("transfer_id",)
    TRANSFER_ID_FIELD_NUMBER: _ClassVar[int]
    transfer_id: str
    def __init__(self, transfer_id: _Optional[str] = ...) -> None: ...

class ProbeEnded(_message.Message):
    __slots__ = ("outcome", "detail", "kv_bytes", "probe_s", "transport")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    KV_BYTES_FIELD_NUMBER: _ClassVar[int]
    PROBE_S_FIELD_NUMBER: _ClassVar[int]
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    outcome: Outcome
    detail: str
    kv_bytes: int
    probe_s: float
    transport: str
    def __init__(self, outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., kv_bytes: _Optional[int] = ..., probe_s: _Optional[float] = ..., transport: _Optional[str] = ...) -> None: ...
