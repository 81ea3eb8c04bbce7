"""One sequence to generate: what was asked, and what is known of it so far."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from splitwise_core.capability import Capability
from splitwise_core.rpc.worker_pb2 import Request, Sampling, Stages
from splitwise_router.caller import Caller
from splitwise_router.request_trace import GenerationTrace, untraced
from splitwise_router.session import Revision


@dataclass(slots=True, eq=False)
class Generation:
    """One sequence to generate, and what is known of it so far, over all attempts.

    `revision` is that of the workers that its output came from; it goes on on no others.
    """

    request_id: str
    prompt: Sequence[int]
    sampling: Sampling
    deadline_unix_s: float
    asked_by: Caller = field(default_factory=Caller)
    output: list[int] = field(default_factory=list)
    revision: Revision | None = None
    stages: Stages = field(default_factory=Stages)
    cached_tokens: int = 0  # of the prompt, when it was computed first
    block_names: Sequence[bytes] | None = None  # of the prompt's beginning; the fleet knows how
    prompt_worker: str = ""
    token_worker: str = ""
    role_change_s: float | None = None  # of the worker that computes its prompt, if it changed
    trace: GenerationTrace = field(default_factory=untraced)

    @property
    def to_prefill(self) -> int:
        """Tokens that the next attempt computes as its prompt."""
        return len(self.prompt) + len(self.output)

    @property
    def to_generate(self) -> int:
        """Tokens that may still come."""
        return int(self.sampling.max_tokens) - len(self.output)

    @property
    def deadline_unix_ms(self) -> int:
        """When nobody waits for it any more."""
        return int(self.deadline_unix_s * 1000)

    def message(self, sequence: int, output: Sequence[int] | None = None) -> Request:
        """The request as it goes to the workers, with the tokens so far, or with this `output`."""
        return Request(
            sequence=sequence,
            request_id=self.request_id,
            prompt_tokens=self.prompt,
            output_tokens=self.output if output is None else output,
            sampling=self.sampling,
            deadline_unix_ms=self.deadline_unix_ms,
            priority=self.asked_by.priority,
            tenant=self.asked_by.tenant,
            traceparent=self.trace.traceparent,
        )

    def capability(
        self, transfer_id: str, prompt_worker: str, token_worker: str, num_tokens: int
    ) -> Capability:
        """What lets the one worker push the KV of so many tokens to the other."""
        return Capability(
            transfer_id=transfer_id,
            request_id=self.request_id,
            prompt_worker=prompt_worker,
            token_worker=token_worker,
            num_tokens=num_tokens,
            not_after_unix_ms=self.deadline_unix_ms,
        )
