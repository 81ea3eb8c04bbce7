"""Two workers for the two phases of a request: each of the shortest queue, and a link between them.

Called by `routing` for the workers of one revision.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice, tee
from math import inf
from typing import Final

from splitwise_core.policy.fleet import NOWHERE, FleetView, Numbers
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
    pending, queues = fleet.pending_prompt_tokens, fleet.pending_tokens
    prompt, prompts = _pool(fleet, revision, Role.PROMPT, asked.prompt, pending, overflow_tokens)
    if prompt == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.PROMPT))
    if not asked.decodes:
        return Placement(prompt, None, Reason.SINGLE_TOKEN)
    token, tokens = _pool(fleet, revision, Role.TOKEN, asked.total, queues, overflow_tokens)
    if token == NOWHERE:
        return Placement(None, None, _why_not(fleet, revision, Role.TOKEN))
    if fleet.role(prompt) == fleet.role(token) == Role.MIXED:
        # Of equal prompt queues the one that decodes least: else the first of many idle workers
        # would get every request, whose prompts then hold up all that it decodes.
        mixed = fleet.members.rows(revision, Role.MIXED)
        one = fleet.least(mixed, asked.total, pending, queues)
        if pending.item(one) <= pending.item(prompt):
            return _placement(fleet, one, one)
    if links.known:
        some = islice(chain((prompt,), prompts), PROMPT_CANDIDATES)
        few = tee(islice(chain((token,), tokens), TOKEN_CANDIDATES), PROMPT_CANDIDATES)
        found = _cheapest(fleet, links, asked, zip(some, few, strict=False)) or _cheapest(
            fleet, links, asked, _reaching(fleet, revision, asked, links)
        )
        prompt, token = found or (prompt, token)
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


def _cheapest(
    fleet: FleetView, links: LinkView, asked: Asked, candidates: Iterable[tuple[int, Iterable[int]]]
) -> tuple[int, int] | None:
    """Of prompt workers, each with token workers of ever longer queues, the pair of least cost.

    None where no link between them works.
    """
    best, least_cost = None, Cost(False, inf, 0.0)
    for prompt, tokens in candidates:
        before = fleet.pending_prompt_tokens.item(prompt)
        for token in links.working(prompt, tokens):
            waiting = before + fleet.pending_tokens.item(token)
            if waiting > least_cost.tokens:
                break  # no transfer takes less than no time
            cost = links.cost(prompt, token, asked.to_compute(token), waiting)
            if cost < least_cost:
                best, least_cost = (prompt, token), cost
    return best


def _reaching(
    fleet: FleetView, revision: int, asked: Asked, links: LinkView
) -> Iterator[tuple[int, Iterable[int]]]:
    """Workers of both pools and the mixed one whose links work, again of the shortest queues."""
    members = fleet.members
    prompts = members.rows(revision, Role.PROMPT, Role.MIXED)
    tokens = members.rows(revision, Role.TOKEN, Role.MIXED)
    numbers = members.numbers(links.number, revision, Role.TOKEN, Role.MIXED)
    found = 0
    for prompt in fleet.in_order(prompts, asked.prompt, fleet.pending_prompt_tokens):
        if not links.reaches_any(prompt, numbers):
            continue  # who is cut off need not be asked for each token worker
        every = fleet.in_order(tokens, asked.total, fleet.pending_tokens)
        works = iter(links.working(prompt, every))
        token = next(works, NOWHERE)
        if token != NOWHERE:
            yield prompt, chain((token,), islice(works, TOKEN_CANDIDATES - 1))
            found += 1
        if found == PROMPT_CANDIDATES:
            return


def _pool(
    fleet: FleetView, revision: int, role: Role, tokens: int, pending: Numbers, overflow_tokens: int
) -> tuple[int, Iterator[int]]:
    """Of the workers of `role` with room for `tokens` that of the shortest queue, and the others.

    Of the mixed ones where there is none, or where it has more than `overflow_tokens` in its queue
    and they have less. NOWHERE where there is nobody.
    """
    own = fleet.in_order(fleet.members.rows(revision, role), tokens, pending)
    first = next(own, NOWHERE)
    if first != NOWHERE and pending.item(first) <= overflow_tokens:
        return first, own
    mixed = fleet.in_order(fleet.members.rows(revision, Role.MIXED), tokens, pending)
    other = next(mixed, NOWHERE)
    if other == NOWHERE or (first != NOWHERE and pending.item(first) <= pending.item(other)):
        return first, own
    return other, mixed


def _why_not(fleet: FleetView, revision: int, role: Role) -> Reason:
    """Tells a pool that is full from one that is not there."""
    if fleet.has_ready(revision, role, Role.MIXED):
        return Reason.NO_CAPACITY
    return Reason.NO_PROMPT_WORKER if role == Role.PROMPT else Reason.NO_TOKEN_WORKER
