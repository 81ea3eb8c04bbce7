"""Cluster scheduler (CLS): a fleet and a request in, a prompt and a token worker out.

The rules are those of the Splitwise paper (Patel et al., ISCA 2024, section 4.2): both machines are
chosen together, each by joining the shortest queue in pending tokens, and a pool whose shortest
queue is too long overflows into the mixed pool. Ours beyond the paper: while a new revision takes
over from an old one, both workers are of the same, for their KV may differ; the link between the
two has its price; and what of a prompt a worker has in its cache shortens its queue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

from splitwise_core.policy.links import NO_LINKS, Cost, LinkView


class Role(IntEnum):
    """Which phases a worker's pool serves."""

    PROMPT = 0
    TOKEN = 1
    MIXED = 2


ROLES: Final = {"prompt": Role.PROMPT, "token": Role.TOKEN, "mixed": Role.MIXED}
"""By the words of a spec and of worker messages."""


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


OVERFLOW_TOKENS: Final = 8192
"""Pending tokens above which a pool overflows into the mixed pool, where nobody says otherwise, as
in the simulator that was released with the paper."""

NOWHERE: Final = -1

NOTHING_CACHED: Final[Mapping[int, int]] = {}


CANDIDATES: Final = 2, 8
"""Prompt and token workers, those of the shortest queues, among which links decide: with them all,
a placement would take pairs instead of workers."""


def place(
    fleet: FleetView,
    prompt_tokens: int,
    max_tokens: int,
    overflow_tokens: int,
    links: LinkView = NO_LINKS,
    cached: Mapping[int, int] = NOTHING_CACHED,
) -> Placement:
    """The prompt and the token worker of a request, chosen together and of one revision.

    `prompt_tokens` are to be prefilled, `max_tokens` may follow. A pool overflows into the mixed
    pool when its shortest queue holds more than `overflow_tokens` and the mixed one is shorter. Of
    several revisions, the one whose workers have the least to do. What a transfer is expected to
    cost counts as a queue does; a link that fails is used when nothing else is there.

    `cached`: by worker, tokens of this prompt that stand in its cache already, below
    `prompt_tokens`. They are neither computed nor moved, so a worker that has them may have a queue
    that is longer by as many.
    """
    asked = _Asked(prompt_tokens, prompt_tokens + max_tokens, cached)
    if cached:
        fleet = replace(
            fleet,
            pending_prompt_tokens=_less(fleet.pending_prompt_tokens, cached),
            pending_tokens=_less(fleet.pending_tokens, cached),
        )
    placements = [
        _within(fleet, revision, asked, overflow_tokens, links)
        for revision in dict.fromkeys(fleet.revision)
    ]
    if found := [placement for placement in placements if placement.found]:
        return min(found, key=lambda placement: _cost(fleet, links, asked, placement))
    full = [placement for placement in placements if placement.reason == Reason.NO_CAPACITY]
    return (full or placements or [Placement(None, None, Reason.NO_PROMPT_WORKER)])[0]


class _Asked(NamedTuple):
    """Tokens of a request: of its prompt, at most in all, and those that workers have."""

    prompt: int
    total: int
    cached: Mapping[int, int]


def _less(pending: Sequence[int], cached: Mapping[int, int]) -> list[int]:
    shorter = list(pending)
    for worker, tokens in cached.items():
        shorter[worker] -= tokens
    return shorter


def _cost(fleet: FleetView, links: LinkView, asked: _Asked, placement: Placement) -> Cost:
    """What a placement that was found costs."""
    prompt, token = placement.prompt, placement.token
    assert prompt is not None
    if token is None:
        return Cost(False, fleet.pending_prompt_tokens[prompt], 0.0)
    return _pair_cost(fleet, links, asked, prompt, token)


def _pair_cost(fleet: FleetView, links: LinkView, asked: _Asked, prompt: int, token: int) -> Cost:
    waiting = fleet.pending_prompt_tokens[prompt] + fleet.pending_tokens[token]
    return links.cost(prompt, token, asked.prompt - asked.cached.get(token, 0), waiting)


def _within(
    fleet: FleetView, revision: int, asked: _Asked, overflow_tokens: int, links: LinkView
) -> Placement:
    """As `place`, with the workers of one revision."""
    pending = fleet.pending_prompt_tokens
    prompt = _shortest(fleet, revision, Role.PROMPT, pending, asked.prompt, overflow_tokens)
    if prompt == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.PROMPT))
    if asked.total - asked.prompt <= 1:
        return Placement(prompt, None, Reason.SINGLE_TOKEN)
    pending = fleet.pending_tokens
    token = _shortest(fleet, revision, Role.TOKEN, pending, asked.total, overflow_tokens)
    if token == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.TOKEN))
    roles = fleet.role[prompt], fleet.role[token]
    if roles == (Role.MIXED, Role.MIXED):
        queues = fleet.pending_prompt_tokens
        # Of equal prompt queues the one that decodes least: else the first of many idle workers
        # would get every request, whose prompts then hold up all that it decodes.
        one = token if queues[token] <= queues[prompt] else prompt
        if _fits(fleet, one, asked.total):
            return _placement(fleet, one, one)
    if not links.known:
        return _placement(fleet, prompt, token)
    chosen = _best_pair(fleet, revision, asked, links, roles[:1], roles[1:], *CANDIDATES)
    if _pair_cost(fleet, links, asked, *chosen).failing:
        both = ((Role.PROMPT, Role.MIXED), (Role.TOKEN, Role.MIXED))
        other = _best_pair(fleet, revision, asked, links, *both, None, None)
        if not _pair_cost(fleet, links, asked, *other).failing:
            chosen = other
    return _placement(fleet, *chosen)


def _placement(fleet: FleetView, prompt: int, token: int) -> Placement:
    """Two workers and why it is they."""
    if prompt == token:
        return Placement(prompt, prompt, Reason.ONE_WORKER)
    if fleet.role[prompt] == Role.MIXED:
        return Placement(prompt, token, Reason.PROMPT_OVERFLOW)
    overflow = fleet.role[token] == Role.MIXED
    return Placement(prompt, token, Reason.TOKEN_OVERFLOW if overflow else Reason.SPLIT)


def _best_pair(
    fleet: FleetView,
    revision: int,
    asked: _Asked,
    links: LinkView,
    prompt_roles: Sequence[int],
    token_roles: Sequence[int],
    most_prompts: int | None,
    most_tokens: int | None,
) -> tuple[int, int]:
    """The pair that costs the least; there is one. Without `most`, among all that have room."""
    prompts = _candidates(
        fleet, revision, prompt_roles, fleet.pending_prompt_tokens, asked.prompt, most_prompts
    )
    tokens = _candidates(
        fleet, revision, token_roles, fleet.pending_tokens, asked.total, most_tokens
    )
    pairs = ((prompt, token) for prompt in prompts for token in tokens)
    return min(pairs, key=lambda pair: _pair_cost(fleet, links, asked, *pair))


def _candidates(
    fleet: FleetView,
    revision: int,
    roles: Sequence[int],
    pending: Sequence[int],
    tokens: int,
    most: int | None,
) -> list[int]:
    """Workers with room for `tokens`, those of the shortest queues, shortest first."""
    fitting = [
        worker
        for worker in range(len(fleet.role))
        if fleet.revision[worker] == revision
        and fleet.role[worker] in roles
        and _fits(fleet, worker, tokens)
    ]
    return sorted(fitting, key=lambda worker: pending[worker])[:most]


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
    own_role, mixed_role = int(role), int(Role.MIXED)
    rows = zip(fleet.role, fleet.revision, pending)
    for worker, (its_role, its_revision, queue) in enumerate(rows):
        # by the cheapest question first: of a thousand workers few get to the last one
        if its_role == own_role:
            best = own
        elif its_role == mixed_role:
            best = mixed
        else:
            continue
        if best != NOWHERE and queue >= pending[best]:
            continue
        if its_revision != revision or not _fits(fleet, worker, tokens):
            continue
        if its_role == own_role:
            own = worker
        else:
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
