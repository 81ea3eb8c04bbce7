"""Cluster scheduler (CLS): a fleet and a request in, a prompt and a token worker out.

The rules are those of the Splitwise paper (Patel et al., ISCA 2024, section 4.2): both machines are
chosen together, each by joining the shortest queue in pending tokens; a pool whose shortest queue
is too long overflows into the mixed pool, and borrows from the other one where that is of no help.
Ours beyond the paper: while a new revision takes over from an old one, both workers are of the
same, for their KV may differ; the link between the two has its price; what of a prompt a worker
has in its cache shortens its queue; and both phases stay on one worker where that is cheaper.
"""

from collections.abc import Mapping
from math import inf
from typing import Any, Final, NamedTuple

from splitwise_core.policy.borrowing import lender
from splitwise_core.policy.fleet import NOWHERE, FleetView, Members
from splitwise_core.policy.links import NO_LINKS, Cost, LinkView
from splitwise_core.policy.mixing import (
    FIXED,
    RETURN_SHARE,
    SHORT_PROMPT_TOKENS,
    Disaggregation,
    Mixing,
)
from splitwise_core.policy.pairs import pair, pair_cost
from splitwise_core.policy.placement import Asked, Placement, Reason
from splitwise_core.policy.roles import ROLES, Role
from splitwise_core.policy.stages import NO_STAGES, StageView

__all__ = ["ROLES", "FleetView", "Members", "Placement", "Reason", "Role", "place"]

NOTHING_CACHED: Final[Mapping[int, int]] = {}
EVERY: Final = slice(None)
"""In place of a worker: a column for all of them."""


def place(
    fleet: FleetView,
    prompt_tokens: int,
    max_tokens: int,
    overflow_tokens: int,
    links: LinkView = NO_LINKS,
    cached: Mapping[int, int] = NOTHING_CACHED,
    mixing: Mixing = FIXED,
    stages: StageView = NO_STAGES,
) -> Placement:
    """The prompt and the token worker of a request, chosen together and of one revision.

    `prompt_tokens`, one at least, are to be prefilled, `max_tokens` may follow. A pool overflows
    into the mixed pool when its shortest queue holds more than `overflow_tokens` and the mixed one
    is shorter. Of several revisions, the one whose workers have the least to do. What a transfer is
    expected to cost counts as a queue does; a link that fails is used when nothing else is there.
    Of equal workers the first.

    `cached`: by worker, tokens of this prompt that stand in its cache already, below
    `prompt_tokens`. They are neither computed nor moved, so a worker that has them may have a queue
    that is longer by as many.

    `mixing` says whether one worker may serve both phases: where a pool is short, or where
    `stages`, as measured, make that the cheaper way.
    """
    asked = Asked(prompt_tokens, prompt_tokens + max_tokens, cached)
    seen, fleet = fleet, fleet.without(cached) if cached else fleet
    scenes = (
        _Scene(seen, fleet, revision, asked, overflow_tokens, links, mixing, stages)
        for revision in fleet.members.revisions
    )
    placements = {scene.revision: scene.placement() for scene in scenes}
    if found := [placement for placement in placements.values() if placement.found]:
        if len(found) == 1:
            return found[0]
        return min(found, key=lambda placement: _cost(fleet, links, asked, placement))
    why = [made.reason for of, made in placements.items() if fleet.has_ready(of, *Role)]
    full = [reason for reason in why if reason is Reason.NO_CAPACITY]
    return Placement(None, None, (full or why or [Reason.NO_PROMPT_WORKER])[0])


def _cost(fleet: FleetView, links: LinkView, asked: Asked, placement: Placement) -> Cost:
    """What a placement that was found costs."""
    prompt, token = placement.prompt, placement.token
    assert prompt is not None
    if token is None:
        return Cost(False, int(fleet.pending_prompt_tokens[prompt]), 0.0)
    return pair_cost(fleet, links, asked, prompt, token)


class _Scene(NamedTuple):
    """One request before the workers of one revision."""

    seen: FleetView
    fleet: FleetView  # with queues shorter by what is cached
    revision: int
    asked: Asked
    overflow_tokens: int
    links: LinkView
    mixing: Mixing
    stages: StageView

    def placement(self) -> Placement:
        """Two workers, or one for both phases where `mixing` allows it and it helps."""
        if self.mixing.disaggregation is Disaggregation.NEVER:
            return self._together()
        found = pair(self.fleet, self.revision, self.asked, self.overflow_tokens, self.links)
        if self.mixing.borrowing:
            found = self._borrowed(found)
        if self.mixing.disaggregation is Disaggregation.AUTO:
            found = self._cheaper(found)
        return found

    def _borrowed(self, found: Placement) -> Placement:
        """A worker of the other pool, where one's own and the mixed one are crowded or full."""
        if not found.found and found.reason is not Reason.NO_CAPACITY:
            return found
        pending, limit = self.fleet.pending_prompt_tokens, self.overflow_tokens
        queue = inf if found.prompt is None else int(pending[found.prompt])
        if queue <= RETURN_SHARE * limit:
            return found
        worker = self._lender(Role.TOKEN, queue)
        if worker != NOWHERE:
            return self._on(worker, Reason.BORROWED_TOKEN_WORKER)
        if found.found:
            return found
        worker = self._lender(Role.PROMPT, inf)
        is_calm = worker != NOWHERE and pending.item(worker) <= limit
        return self._on(worker, Reason.BORROWED_PROMPT_WORKER) if is_calm else found

    def _lender(self, role: Role, queue_tokens: float) -> int:
        rows = self.fleet.members.rows(self.revision, role)
        return lender(self.fleet, rows, self.asked.total, queue_tokens, self.overflow_tokens)

    def _cheaper(self, found: Placement) -> Placement:
        """One worker for both phases, where that costs less than the two that were found."""
        prompt, token = found.prompt, found.token
        if prompt is None or token is None or prompt == token:
            return found
        if not self.stages.known:
            is_short = self.asked.to_compute(token) <= SHORT_PROMPT_TOKENS
            return self._on(token, Reason.SHORT_PROMPT) if is_short else found
        best, best_s = self._alone()
        if best == NOWHERE:
            return found
        is_cheaper = (False, best_s) < self._apart_s(prompt, token)
        return self._on(best, Reason.CHEAPER_TOGETHER) if is_cheaper else found

    def _together(self) -> Placement:
        """The one worker that serves the request soonest, whatever its pool is for."""
        best, _ = self._alone()
        if best == NOWHERE:
            return Placement(None, None, Reason.NO_CAPACITY)
        return self._on(best, Reason.ONE_WORKER)

    def _on(self, worker: int, reason: Reason) -> Placement:
        if not self.asked.decodes:
            return Placement(worker, None, Reason.SINGLE_TOKEN)
        return Placement(worker, worker, reason)

    def _alone(self) -> tuple[int, float]:
        """The worker with room for all of the request to which it costs the least, and how much.

        In seconds; in tokens that wait there, while nothing is measured.
        """
        if self.stages.known:
            costs = self._seconds(EVERY, EVERY, 0.0)
        else:
            costs = self.fleet.pending_prompt_tokens + self.fleet.pending_tokens
        rows = self.fleet.members.rows(self.revision, *self.mixing.whole_roles)
        best = self.fleet.least(rows, self.asked.total, costs)
        return best, costs.item(best) if best != NOWHERE else inf

    def _apart_s(self, prompt: int, token: int) -> tuple[bool, float]:
        """Whether a pair's link fails, and the seconds that the pair costs."""
        link = self.links.cost(prompt, token, self.asked.to_compute(token), 0)
        return link.failing, self._seconds(prompt, token, link.seen_s)

    def _seconds(self, prompt: int | slice, token: int | slice, seen_s: float) -> Any:
        queued = self.seen.pending_prompt_tokens[prompt]
        tokens: Any = self.asked.prompt
        if self.asked.cached:
            tokens = tokens - (queued - self.fleet.pending_prompt_tokens[prompt])
        most = self.asked.total - self.asked.prompt
        return self.stages.cost_s(prompt, token, queued, tokens, most, seen_s)
