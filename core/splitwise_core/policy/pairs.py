"""Two workers for the two phases of a request: each of the shortest queue, and a link between them.

Called by `routing` for the workers of one revision.
"""

from collections.abc import Sequence
from typing import Final

from splitwise_core.policy.fleet import NOWHERE, FleetView, Role
from splitwise_core.policy.links import Cost, LinkView
from splitwise_core.policy.placement import Asked, Placement, Reason

CANDIDATES: Final = 2, 8
"""Prompt and token workers, those of the shortest queues, among which links decide: with them all,
a placement would take pairs instead of workers."""


def pair(
    fleet: FleetView, revision: int, asked: Asked, overflow_tokens: int, links: LinkView
) -> Placement:
    """The workers of one revision that their pools' queues and their links speak for."""
    pending = fleet.pending_prompt_tokens
    prompt = _shortest(fleet, revision, Role.PROMPT, pending, asked.prompt, overflow_tokens)
    if prompt == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.PROMPT))
    if not asked.decodes:
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
        if fleet.fits(one, asked.total):
            return _placement(fleet, one, one)
    if not links.known:
        return _placement(fleet, prompt, token)
    chosen = _best_pair(fleet, revision, asked, links, roles[:1], roles[1:], *CANDIDATES)
    if pair_cost(fleet, links, asked, *chosen).failing:
        both = ((Role.PROMPT, Role.MIXED), (Role.TOKEN, Role.MIXED))
        other = _best_pair(fleet, revision, asked, links, *both, None, None)
        if not pair_cost(fleet, links, asked, *other).failing:
            chosen = other
    return _placement(fleet, *chosen)


def pair_cost(fleet: FleetView, links: LinkView, asked: Asked, prompt: int, token: int) -> Cost:
    """What a pair costs, in tokens that wait before the request."""
    waiting = fleet.pending_prompt_tokens[prompt] + fleet.pending_tokens[token]
    return links.cost(prompt, token, asked.to_compute(token), waiting)


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
    asked: Asked,
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
    return min(pairs, key=lambda pair: pair_cost(fleet, links, asked, *pair))


def _candidates(
    fleet: FleetView,
    revision: int,
    roles: Sequence[int],
    pending: Sequence[int],
    tokens: int,
    most: int | None,
) -> list[int]:
    """Workers with room for `tokens`, those of the shortest queues, shortest first."""
    fitting = fleet.fitting(revision, roles, tokens)
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
        if its_revision != revision or not fleet.fits(worker, tokens):
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
