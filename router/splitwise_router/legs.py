"""What a router's requests hold on a worker, from its own books."""

from collections.abc import Callable
from dataclasses import dataclass

from splitwise_core.rpc.worker_pb2 import Decode, Prefill, Update, WorkerInfo


@dataclass(slots=True, eq=False)
class Leg:
    """A request's part on one worker, and what it claims there until it ends."""

    sequence: int
    deliver: Callable[[Update], None]
    blocks: int
    prompt_tokens: int  # not computed yet, as far as the router knows
    kv_tokens: int
    decodes: bool = True  # there, once its prompt is computed


@dataclass(slots=True)
class Claims:
    """What this router's own legs hold on a worker, known before the worker reports it."""

    blocks: int = 0
    prompt_tokens: int = 0
    kv_tokens: int = 0
    decoding: int = 0  # sequences

    def add(self, leg: Leg, sign: int) -> None:
        """Counts a leg in (`sign` 1) or out (-1)."""
        self.blocks += sign * leg.blocks
        self.prompt_tokens += sign * leg.prompt_tokens
        self.kv_tokens += sign * leg.kv_tokens
        self.decoding += sign * leg.decodes


def leg_of(
    part: Prefill | Decode,
    deliver: Callable[[Update], None],
    reserved_tokens: int,
    worker: WorkerInfo | None,
    prompt_tokens: int = 0,
) -> Leg:
    """The leg that `part` begins on a worker, with blocks for so many tokens."""
    size = max(1, worker.block_tokens) if worker else 1
    request = part.request
    hands_over = isinstance(part, Prefill) and part.HasField("transfer")
    return Leg(
        sequence=request.sequence,
        deliver=deliver,
        blocks=-(-reserved_tokens // size),
        prompt_tokens=prompt_tokens,
        kv_tokens=len(request.prompt_tokens) + len(request.output_tokens),
        decodes=not hands_over,
    )
