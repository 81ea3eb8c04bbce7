"""Cluster scheduler (CLS): a fleet and a request in, a prompt and a token worker out.

The rules are those of the Splitwise paper (Patel et al., ISCA 2024, section 4.2): both machines are
chosen together, each by joining the shortest queue in pending tokens, and a pool whose shortest
queue is too long overflows into the mixed pool. Ours beyond the paper: while a new revision takes
over from an old one, both workers are of the same, for their KV may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final


class Role(IntEnum):
    """Which phases a worker's pool serves."""

    PROMPT = 0
    TOKEN = 1
    MIXED = 2


class Reason(StrEnum):
    """Why a placement is what it is."""

    SPLIT = "split"  # the two pools of the phases
    PROMPT_OVERFLOW = "prompt-overflow"  # the prompt went to the mixed pool
    TOKEN_OVERFLOW = "token-overflow"  # the tokens went to the mixed pool
    ONE_WORKER = "one-worker"  # both phases on one mixed worker, nothing is moved
    SINGLE_TOKEN = "single-token"  # one output token: the prompt's own, no decode needed
    NO_PROMPT_WORKER = "no-prompt-worker"
    NO_TOKEN_WORKER = "no-token-worker"
    NO_CAPACITY = "no-capacity"  # workers there are, room there is none


@dataclass(frozen=True, slots=True)
class FleetView:
    """What the router knows of its workers, as parallel columns; a worker is its index.

    `revision`: equal where KV may move from one worker to the other.
    `pending_prompt_tokens`: prompt tokens queued or being computed. `pending_tokens`: KV tokens of
    sequences that decode or wait to. `free_blocks` / `free_sequences`: what the worker can still
    admit, counting what this router has sent and the worker has not reported yet.
    """

    role: Sequence[int]
    revision: Sequence[int]
    ready: Sequence[bool]
    pending_prompt_tokens: Sequence[int]
    pending_tokens: Sequence[int]
    free_blocks: Sequence[int]
    free_sequences: Sequence[int]
    block_tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Placement:
    """The workers of a request. `token` is None when no decode is needed, or nothing was found."""

    prompt: int | None
    token: int | None
    reason: Reason

    @property
    def found(self) -> bool:
        """Whether there is a worker for every phase that the request needs."""
        return self.prompt is not None


NOWHERE: Final = -1


def place(fleet: FleetView, prompt_tokens: int, max_tokens: int, overflow_tokens: int) -> Placement:
    """The prompt and the token worker of a request, chosen together and of one revision.

    `prompt_tokens` are to be prefilled, `max_tokens` may follow. A pool overflows into the mixed
    pool when its shortest queue holds more than `overflow_tokens` and the mixed one is shorter. Of
    several revisions, the one whose workers have the least to do.
    """
    placements = [
        _within(fleet, revision, prompt_tokens, max_tokens, overflow_tokens)
        for revision in dict.fromkeys(fleet.revision)
    ]
    if found := [placement for placement in placements if placement.found]:
        return min(found, key=lambda placement: _pending(fleet, placement))
    full = [placement for placement in placements if placement.reason == Reason.NO_CAPACITY]
    return (full or placements or [Placement(None, None, Reason.NO_PROMPT_WORKER)])[0]


def _pending(fleet: FleetView, placement: Placement) -> int:
    """Tokens that wait at the workers of a placement."""
    tokens = 0 if placement.prompt is None else fleet.pending_prompt_tokens[placement.prompt]
    return tokens if placement.token is None else tokens + fleet.pending_tokens[placement.token]


def _within(
    fleet: FleetView, revision: int, prompt_tokens: int, max_tokens: int, overflow_tokens: int
) -> Placement:
    """As `place`, with the workers of one revision."""
    prompt = _shortest(
        fleet, revision, Role.PROMPT, fleet.pending_prompt_tokens, prompt_tokens, overflow_tokens
    )
    if prompt == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.PROMPT))
    if max_tokens <= 1:
        return Placement(prompt, None, Reason.SINGLE_TOKEN)
    total = prompt_tokens + max_tokens
    token = _shortest(fleet, revision, Role.TOKEN, fleet.pending_tokens, total, overflow_tokens)
    if token == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.TOKEN))
    prompt_is_mixed = fleet.role[prompt] == Role.MIXED
    if prompt_is_mixed and fleet.role[token] == Role.MIXED and _fits(fleet, prompt, total):
        return Placement(prompt, prompt, Reason.ONE_WORKER)
    if prompt_is_mixed:
        return Placement(prompt, token, Reason.PROMPT_OVERFLOW)
    overflow = fleet.role[token] == Role.MIXED
    return Placement(prompt, token, Reason.TOKEN_OVERFLOW if overflow else Reason.SPLIT)


def _shortest(
    fleet: FleetView,
    revision: int,
    role: Role,
    pending: Sequence[int],
    tokens: int,
    overflow_tokens: int,
) -> int:
    """The worker of `role` with the shortest queue and room for `tokens`, or a mixed one."""
    own, mixed = NOWHERE, NOWHERE
    for worker in range(len(fleet.role)):
        if fleet.revision[worker] != revision or not _fits(fleet, worker, tokens):
            continue
        if fleet.role[worker] == role and (own == NOWHERE or pending[worker] < pending[own]):
            own = worker
        elif fleet.role[worker] == Role.MIXED and (
            mixed == NOWHERE or pending[worker] < pending[mixed]
        ):
            mixed = worker
    if mixed == NOWHERE:
        return own
    if own == NOWHERE:
        return mixed
    crowded = pending[own] > overflow_tokens and pending[mixed] < pending[own]
    return mixed if crowded else own


def _fits(fleet: FleetView, worker: int, tokens: int) -> bool:
    """Whether a worker is ready and could reserve blocks for `tokens` tokens now."""
    size = fleet.block_tokens[worker]
    blocks = (tokens + size - 1) // size
    return (
        fleet.ready[worker]
        and fleet.free_blocks[worker] >= blocks
        and fleet.free_sequences[worker] > 0
    )


def _why_not(fleet: FleetView, revision: int, role: Role) -> Reason:
    """Tells a pool that is full from one that is not there."""
    for worker in range(len(fleet.role)):
        if (
            fleet.ready[worker]
            and fleet.revision[worker] == revision
            and fleet.role[worker] in (role, Role.MIXED)
        ):
            return Reason.NO_CAPACITY
    return Reason.NO_PROMPT_WORKER if role == Role.PROMPT else Reason.NO_TOKEN_WORKER
