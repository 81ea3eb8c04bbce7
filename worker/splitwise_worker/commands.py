"""What the engine can be told, by routers and by its sidecar, as one closed set of records."""

from dataclasses import dataclass

from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker.sequence import SequenceKey


@dataclass(frozen=True, slots=True)
class Prefill:
    """Compute a prompt; hand its KV over when the message names a peer."""

    session: int
    message: worker_pb2.Prefill


@dataclass(frozen=True, slots=True)
class Decode:
    """Reserve blocks, open a lease, and decode once the KV is verified."""

    session: int
    message: worker_pb2.Decode


@dataclass(frozen=True, slots=True)
class Cancel:
    """The router no longer wants this sequence."""

    key: SequenceKey


@dataclass(frozen=True, slots=True)
class Move:
    """A router has found a peer for a sequence that decodes here, or has lost it again."""

    key: SequenceKey
    message: worker_pb2.Move


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A router is gone: all its sequences go with it."""

    session: int


@dataclass(frozen=True, slots=True)
class FromSidecar:
    """A lease or a transfer has moved on."""

    message: kv_pb2.FromSidecarToWorker


@dataclass(frozen=True, slots=True)
class SidecarLost:
    """The sidecar is gone, and with it every lease and transfer of this attachment."""


@dataclass(frozen=True, slots=True)
class MeasureLink:
    """A router wants to know what the link to a token worker's sidecar is like."""

    message: kv_pb2.MeasureLink


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no new work, and be rid of what is here within so many seconds."""

    within_s: float


@dataclass(frozen=True, slots=True)
class Stop:
    """End the engine's loop now."""


Command = (
    Prefill
    | Decode
    | Cancel
    | Move
    | SessionEnded
    | FromSidecar
    | SidecarLost
    | MeasureLink
    | Drain
    | Stop
)
