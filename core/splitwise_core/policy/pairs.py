"""Two workers for the two phases of a request: each of the shortest queue, and a link between them.

Called by `routing` for the workers of one revision.
"""

from collections.abc import Iterable, Iterator
from itertools import islice, tee
from math import inf
from typing import Final

from splitwise_core.policy.fleet import NOWHERE, FleetView, Numbers, Rows, in_order, least
from splitwise_core.policy.links import Cost, LinkView
from splitwise_core.policy.placement import Asked, Placement, Reason
from splitwise_core.policy.roles import Role

PROMPT_CANDIDATES: Final = 2
TOKEN_CANDIDATES: Final = 8
"""Workers, those of the shortest queues, among which links decide: with them all, a placement would
take pairs instead of workers."""


def pair(
    fleet: FleetView, revision: int, asked: Asked, overflow_tokens: int, links: LinkView
) -> Placement:
    """The workers of one revision that their pools' queues and their links speak for."""
    pending = fleet.pending_prompt_tokens
    prompts = _pool(fleet, revision, Role.PROMPT, pending, asked.prompt, overflow_tokens)
    prompt = least(prompts, pending)
    if prompt == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.PROMPT))
    if not asked.decodes:
        return Placement(prompt, None, Reason.SINGLE_TOKEN)
    queues = fleet.pending_tokens
    tokens = _pool(fleet, revision, Role.TOKEN, queues, asked.total, overflow_tokens)
    token = least(tokens, queues)
    if token == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.TOKEN))
    if fleet.role(prompt) == fleet.role(token) == Role.MIXED:
        # Of equal prompt queues the one that decodes least: else the first of many idle workers
        # would get every request, whose prompts then hold up all that it decodes.
        one = least(tokens, pending, queues)
        if pending[one] <= pending[prompt]:
            return _placement(fleet, one, one)
    if links.known:
        prompt, token = _linked(fleet, revision, asked, links, prompts, tokens)
    return _placement(fleet, prompt, token)


def pair_cost(fleet: FleetView, links: LinkView, asked: Asked, prompt: int, token: int) -> Cost:
    """What a pair costs, in tokens that wait before the request."""
    waiting = fleet.pending_prompt_tokens.item(prompt) + fleet.pending_tokens.item(token)
    return links.cost(prompt, token, asked.to_compute(token), waiting)


def _placement(fleet: FleetView, prompt: int, token: int) -> Placement:
    """Two workers and why it is they."""
    if prompt == token:
        return Placement(prompt, prompt, Reason.ONE_WORKER)
    if fleet.role(prompt) == Role.MIXED:
        return Placement(prompt, token, Reason.PROMPT_OVERFLOW)
    overflow = fleet.role(token) == Role.MIXED
    return Placement(prompt, token, Reason.TOKEN_OVERFLOW if overflow else Reason.SPLIT)


def _linked(
    fleet: FleetView, revision: int, asked: Asked, links: LinkView, prompts: Rows, tokens: Rows
) -> tuple[int, int]:
    """The pair of workers of two pools that costs the least.

    Where all the links of those with short queues fail, of any workers that can reach each other.
    """
    few = islice(in_order(tokens, fleet.pending_tokens), TOKEN_CANDIDATES)
    some = in_order(prompts, fleet.pending_prompt_tokens)
    each = zip(tee(few, PROMPT_CANDIDATES), some, strict=False)
    best, cost = _cheapest(fleet, links, asked, ((prompt, few) for few, prompt in each))
    if cost.failing:
        reaching = _reaching(fleet, revision, asked, links)
        other, cost = _cheapest(fleet, links, asked, reaching)
        best = best if cost.failing else other
    return best


def _cheapest(
    fleet: FleetView, links: LinkView, asked: Asked, candidates: Iterable[tuple[int, Iterable[int]]]
) -> tuple[tuple[int, int], Cost]:
    """Of prompt workers, each with token workers of ever longer queues, the pair of least cost."""
    best, least_cost = (NOWHERE, NOWHERE), Cost(True, inf, 0.0)
    for prompt, tokens in candidates:
        before = fleet.pending_prompt_tokens.item(prompt)
        for token in tokens:
            waiting = before + fleet.pending_tokens.item(token)
            if waiting > least_cost.tokens and not least_cost.failing:
                break  # no transfer takes less than no time
            cost = links.cost(prompt, token, asked.to_compute(token), waiting)
            if cost < least_cost:
                best, least_cost = (prompt, token), cost
    return best, least_cost


def _reaching(
    fleet: FleetView, revision: int, asked: Asked, links: LinkView
) -> Iterator[tuple[int, Iterable[int]]]:
    """Workers of both pools and the mixed one whose links work, again of the shortest queues."""
    prompts = fleet.room(revision, asked.prompt, Role.PROMPT, Role.MIXED)
    tokens = fleet.room(revision, asked.total, Role.TOKEN, Role.MIXED)
    numbers = set(links.number[tokens].tolist())
    reached = (
        (prompt, links.works(prompt))
        for prompt in in_order(prompts, fleet.pending_prompt_tokens)
        if links.reaches_any(prompt, numbers)
    )
    queues = fleet.pending_tokens
    for prompt, works in islice(reached, PROMPT_CANDIDATES):
        yield prompt, islice(filter(works, in_order(tokens, queues)), TOKEN_CANDIDATES)


def _pool(
    fleet: FleetView,
    revision: int,
    role: Role,
    pending: Numbers,
    tokens: int,
    overflow_tokens: int,
) -> Rows:
    """The workers of `role` with room for `tokens`, or the mixed ones, for their shortest queue."""
    own, mixed = (fleet.room(revision, tokens, its) for its in (role, Role.MIXED))
    if not len(own) or not len(mixed):
        return own if len(own) else mixed
    queue = pending[own].min()
    crowded = queue > overflow_tokens and pending[mixed].min() < queue
    return mixed if crowded else own


def _why_not(fleet: FleetView, revision: int, role: Role) -> Reason:
    """Tells a pool that is full from one that is not there."""
    if fleet.has_ready(revision, role, Role.MIXED):
        return Reason.NO_CAPACITY
    return Reason.NO_PROMPT_WORKER if role == Role.PROMPT else Reason.NO_TOKEN_WORKER
