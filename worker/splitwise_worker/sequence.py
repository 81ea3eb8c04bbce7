"""The one record of a sequence, shared by scheduler, runner and server."""

from dataclasses import dataclass, field
from enum import StrEnum

from splitwise_core.policy.fairness import Priority
from splitwise_core.tracing import SpanContext
from splitwise_worker.sampling import SamplingParams


class Phase(StrEnum):
    """Where a sequence stands on this worker."""

    WAITING = "waiting"  # its prompt is not computed yet
    SENDING = "sending"  # its prompt is done; the blocks stay until the peer has verified them
    ARRIVING = "arriving"  # blocks are reserved and a lease is open; the KV is not verified yet
    RUNNING = "running"  # it decodes
    CLOSING = "closing"  # ended, but the sidecar may still read or write its blocks


@dataclass(frozen=True, slots=True)
class SequenceKey:
    """A router's session and the router's number for the sequence in it."""

    session: int
    number: int


@dataclass(slots=True)
class SequenceTrace:
    """Where a traced sequence stands in its trace. Times as of `LiveSequence`."""

    attempt: SpanContext  # its router's, which spans of here are under
    transfer: SpanContext  # of here, which the sidecar's spans of its transfer are under
    since_s: float  # when the stage that it is in began
    moving_since_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ArrivedKv:
    """KV that a peer computed, as it stood verified in the blocks at `at_s`, after `visible_s`."""

    at_s: float
    visible_s: float  # since the peer was done
    kv_bytes: int
    transport: str


@dataclass(slots=True)
class LiveSequence:
    """A request on this worker. Times are of the engine's monotonic clock, in seconds."""

    key: SequenceKey
    request_id: str
    prompt_tokens: list[int]
    output_tokens: list[int]
    params: SamplingParams
    phase: Phase
    arrived_s: float
    deadline_s: float
    blocks: tuple[int, ...] = ()
    block_names: list[bytes] = field(default_factory=list)  # of the first full blocks
    tenant: int = 0  # whose it is: a number for the client's key
    priority: int = Priority.NORMAL
    rank: float = 0.0  # among those that wait, the lowest is next
    cached_tokens: int = 0  # its first ones, whose K/V were here when it came
    transfer_id: str = ""
    peer: str = ""
    is_layerwise: bool = True  # whether its layers are told of one by one
    capability: bytes = b""  # the router's leave to push to the peer
    moving_tokens: int = 0  # its first ones, which a peer gets while it decodes; 0: it stays
    move_wanted_s: float | None = None  # when a peer was asked for last
    computed_tokens: int = 0  # tokens whose K/V stand in the blocks
    prefill_started_s: float = 0.0
    arrived_kv: ArrivedKv | None = None  # from a peer, until its first decode token
    trace: SequenceTrace | None = None

    def __post_init__(self) -> None:
        assert self.prompt_tokens, "a sequence has at least one prompt token"
        assert len(self.output_tokens) < self.params.max_tokens, "nothing is left to generate"

    @property
    def num_tokens(self) -> int:
        """Prompt and output tokens so far."""
        return len(self.prompt_tokens) + len(self.output_tokens)

    @property
    def tokens_to_compute(self) -> int:
        """Tokens whose K/V are still to be computed."""
        return self.num_tokens - self.computed_tokens

    @property
    def most_tokens(self) -> int:
        """Tokens whose KV it may come to need: its last token is never computed."""
        return len(self.prompt_tokens) + self.params.max_tokens - 1

    @property
    def pending_tokens(self) -> list[int]:
        """The tokens that its next step computes: a whole prompt, or the last token."""
        prompt = len(self.prompt_tokens)
        if self.computed_tokens >= prompt:
            return self.output_tokens[self.computed_tokens - prompt :]
        return self.prompt_tokens[self.computed_tokens :] + self.output_tokens

    @property
    def hands_over(self) -> bool:
        """Whether its KV goes to a peer: after the prompt, or while it decodes."""
        return bool(self.peer)

    @property
    def pushed_tokens(self) -> int:
        """Tokens whose KV its transfer takes to the peer."""
        return self.moving_tokens or self.num_tokens

    @property
    def tokens_behind(self) -> list[int]:
        """Output tokens that follow those its transfer takes along."""
        return self.output_tokens[self.pushed_tokens - len(self.prompt_tokens) :]

    @property
    def transfer_traceparent(self) -> str:
        """What its transfer's spans in the sidecar are under; empty where nobody traces it."""
        return self.trace.transfer.traceparent if self.trace else ""

    @property
    def most_left(self) -> int:
        """Tokens that it may still generate."""
        return self.params.max_tokens - len(self.output_tokens)

    def stay(self) -> None:
        """Belongs to no transfer any more."""
        self.transfer_id, self.peer, self.capability = "", "", b""
        self.moving_tokens = 0
