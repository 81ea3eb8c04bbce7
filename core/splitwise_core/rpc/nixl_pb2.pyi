from splitwise_core.rpc import kv_pb2 as _kv_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FromNixlSender(_message.Message):
    __slots__ = ("hello", "begin", "end")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    hello: NixlHello
    begin: NixlBegin
    end: NixlEnd
    def __init__(self, hello: _Optional[_Union[NixlHello, _Mapping]] = ..., begin: _Optional[_Union[NixlBegin, _Mapping]] = ..., end: _Optional[_Union[NixlEnd, _Mapping]] = ...) -> None: ...

class FromNixlReceiver(_message.Message):
    __slots__ = ("hello", "grant", "stop", "ended")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    hello: NixlHello
    grant: NixlGrant
    stop: NixlStop
    ended: NixlEnded
    def __init__(self, hello: _Optional[_Union[NixlHello, _Mapping]] = ..., grant: _Optional[_Union[NixlGrant, _Mapping]] = ..., stop: _Optional[_Union[NixlStop, _Mapping]] = ..., ended: _Optional[_Union[NixlEnded, _Mapping]] = ...) -> None: ...

class NixlHello(_message.Message):
    __slots__ = ("transport", "agent")
    TRANSPORT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    transport: str
    agent: bytes
    def __init__(self, transport: _Optional[str] = ..., agent: _Optional[bytes] = ...) -> None: ...

class NixlBegin(_message.Message):
    __slots__ = ("push", "wire_id", "epoch", "layer", "layer_bytes")
    PUSH_FIELD_NUMBER: _ClassVar[int]
    WIRE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYER_BYTES_FIELD_NUMBER: _ClassVar[int]
    push: int
    wire_id: bytes
    epoch: int
    layer: int
    layer_bytes: int
    def __init__(self, push: _Optional[int] = ..., wire_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., layer: _Optional[int] = ..., layer_bytes: _Optional[int] = ...) -> None: ...

class NixlGrant(_message.Message):
    __slots__ = ("push", "grant", "memory", "base", "blocks")
    PUSH_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    push: int
    grant: int
    memory: bytes
    base: int
    blocks: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, push: _Optional[int] = ..., grant: _Optional[int] = ..., memory: _Optional[bytes] = ..., base: _Optional[int] = ..., blocks: _Optional[_Iterable[int]] = ...) -> None: ...

class NixlEnd(_message.Message):
    __slots__ = ("push", "layers", "in_flight")
    PUSH_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    push: int
    layers: int
    in_flight: bool
    def __init__(self, push: _Optional[int] = ..., layers: _Optional[int] = ..., in_flight: _Optional[bool] = ...) -> None: ...

class NixlStop(_message.Message):
    __slots__ = ("push", "outcome")
    PUSH_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    push: int
    outcome: _kv_pb2.Outcome
    def __init__(self, push: _Optional[int] = ..., outcome: _Optional[_Union[_kv_pb2.Outcome, str]] = ...) -> None: ...

class NixlEnded(_message.Message):
    __slots__ = ("push", "outcome")
    PUSH_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    push: int
    outcome: _kv_pb2.Outcome
    def __init__(self, push: _Optional[int] = ..., outcome: _Optional[_Union[_kv_pb2.Outcome, str]] = ...) -> None: ...
