"""Where a request goes, said worker by worker: slow, and as `docs/scheduling.md` has it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from math import inf

import numpy as np

from splitwise_core.policy.fleet import NOT_READY, FleetView
from splitwise_core.policy.link import Link
from splitwise_core.policy.links import Cost, LinkView, failing_of
from splitwise_core.policy.mixing import SHORT_PROMPT_TOKENS, Disaggregation, Mixing
from splitwise_core.policy.placement import Placement, Reason
from splitwise_core.policy.roles import Role
from splitwise_core.policy.stages import StageView

Workers = Sequence[int]


def linked(
    numbers: Sequence[int],
    tokens_per_s: Sequence[float],
    known: Mapping[int, Mapping[int, Link]],
) -> LinkView:
    """The links between workers; KV of a token is 1 kB, of four layers."""
    speeds = np.array(tokens_per_s)
    return LinkView(np.array(numbers), speeds, known, 1000, 4, failing_of(known))


@dataclass(frozen=True)
class Plain:
    """One request before the workers of one revision."""

    fleet: FleetView
    revision: int
    prompt_tokens: int
    max_tokens: int
    overflow_tokens: int
    links: LinkView
    cached: Mapping[int, int]
    mixing: Mixing
    stages: StageView

    @property
    def total(self) -> int:
        return self.prompt_tokens + self.max_tokens

    # ---- workers ----

    def ready(self, *roles: Role) -> Workers:
        members = zip(self.fleet.members.role.tolist(), self.fleet.members.revision.tolist())
        return [
            worker
            for worker, (role, revision) in enumerate(members)
            if role in roles and revision == self.revision
            if self.fleet.room_tokens[worker] > NOT_READY
        ]

    def room(self, tokens: int, *roles: Role) -> Workers:
        return [w for w in self.ready(*roles) if self.fleet.room_tokens[w] >= tokens]

    def prompt_queue(self, worker: int) -> int:
        return int(self.fleet.pending_prompt_tokens[worker]) - self.cached.get(worker, 0)

    def token_queue(self, worker: int) -> int:
        return int(self.fleet.pending_tokens[worker]) - self.cached.get(worker, 0)

    def lacks(self, worker: int) -> int:
        return self.prompt_tokens - self.cached.get(worker, 0)

    # ---- two workers ----

    def pool(self, role: Role, tokens: int, queue: Callable[[int], int]) -> Workers:
        own, mixed = self.room(tokens, role), self.room(tokens, Role.MIXED)
        if not own or not mixed:
            return own or mixed
        shortest, other = min(map(queue, own)), min(map(queue, mixed))
        return mixed if self.overflow_tokens < shortest and other < shortest else own

    def pair(self) -> Placement:
        prompts = self.pool(Role.PROMPT, self.prompt_tokens, self.prompt_queue)
        if not prompts:
            full = self.ready(Role.PROMPT, Role.MIXED)
            return Placement(None, None, Reason.NO_CAPACITY if full else Reason.NO_PROMPT_WORKER)
        prompt = min(prompts, key=self.prompt_queue)
        if self.max_tokens < 2:
            return Placement(prompt, None, Reason.SINGLE_TOKEN)
        tokens = self.pool(Role.TOKEN, self.total, self.token_queue)
        if not tokens:
            full = self.ready(Role.TOKEN, Role.MIXED)
            return Placement(None, None, Reason.NO_CAPACITY if full else Reason.NO_TOKEN_WORKER)
        token = min(tokens, key=self.token_queue)
        if self.fleet.role(prompt) == self.fleet.role(token) == Role.MIXED:
            one = min(tokens, key=lambda w: (self.prompt_queue(w), self.token_queue(w)))
            if self.prompt_queue(one) <= self.prompt_queue(prompt):
                return Placement(one, one, Reason.ONE_WORKER)
        prompt, token = self.linked(prompts, tokens)
        if prompt == token:
            return Placement(prompt, token, Reason.ONE_WORKER)
        if self.fleet.role(prompt) == Role.MIXED:
            return Placement(prompt, token, Reason.PROMPT_OVERFLOW)
        if self.fleet.role(token) == Role.MIXED:
            return Placement(prompt, token, Reason.TOKEN_OVERFLOW)
        return Placement(prompt, token, Reason.SPLIT)

    def linked(self, prompts: Workers, tokens: Workers) -> tuple[int, int]:
        """Of two prompt workers and eight token workers, the pair that costs the least."""
        first = sorted(prompts, key=self.prompt_queue)[:2]
        best = self.cheapest(product(first, sorted(tokens, key=self.token_queue)[:8]))
        if not self.cost(*best).failing:
            return best
        # Two prompt workers that reach anybody, and the first eight token workers of each.
        every = sorted(self.room(self.total, Role.TOKEN, Role.MIXED), key=self.token_queue)
        rows: list[list[tuple[int, int]]] = []
        for prompt in sorted(
            self.room(self.prompt_tokens, Role.PROMPT, Role.MIXED), key=self.prompt_queue
        ):
            works = ((prompt, t) for t in every if not self.cost(prompt, t).failing)
            rows.append(list(islice(works, 8)))
        reached = [row for row in rows if row][:2]
        return self.cheapest(pair for row in reached for pair in row) if reached else best

    def cheapest(self, pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
        return min(pairs, key=lambda pair: self.cost(*pair))

    def cost(self, prompt: int, token: int) -> Cost:
        waiting = self.prompt_queue(prompt) + self.token_queue(token)
        return self.links.cost(prompt, token, self.lacks(token), waiting)

    # ---- one worker ----

    def on(self, worker: int, reason: Reason) -> Placement:
        if self.max_tokens < 2:
            return Placement(worker, None, Reason.SINGLE_TOKEN)
        return Placement(worker, worker, reason)

    def alone_s(self, worker: int) -> float:
        if not self.stages.known:
            return self.prompt_queue(worker) + self.token_queue(worker)
        return self.seconds(worker, worker, 0.0)

    def seconds(self, prompt: int, token: int, seen_s: float) -> float:
        queued, lacks = int(self.fleet.pending_prompt_tokens[prompt]), self.lacks(prompt)
        return float(self.stages.cost_s(prompt, token, queued, lacks, self.max_tokens, seen_s))

    def lender(self, workers: Workers, queue: float) -> int | None:
        def can(worker: int) -> bool:
            share = 0.5 if self.fleet.borrowed[worker] else 1
            return queue > share * self.overflow_tokens and queue > self.prompt_queue(worker)

        def order(worker: int) -> tuple[bool, bool, int, int]:
            mine = self.prompt_queue(worker)
            is_new = not self.fleet.borrowed[worker]
            return mine > self.overflow_tokens, is_new, mine, self.token_queue(worker)

        return min(filter(can, workers), key=order, default=None)

    def borrowed(self, found: Placement) -> Placement:
        if not found.found and found.reason is not Reason.NO_CAPACITY:
            return found
        queue = inf if found.prompt is None else self.prompt_queue(found.prompt)
        if queue <= 0.5 * self.overflow_tokens:
            return found
        worker = self.lender(self.room(self.total, Role.TOKEN), queue)
        if worker is not None:
            return self.on(worker, Reason.BORROWED_TOKEN_WORKER)
        room = self.room(self.total, Role.PROMPT)
        idle = [w for w in room if self.prompt_queue(w) <= self.overflow_tokens]
        worker = None if found.found else self.lender(idle, inf)
        return found if worker is None else self.on(worker, Reason.BORROWED_PROMPT_WORKER)

    def cheaper(self, found: Placement) -> Placement:
        prompt, token = found.prompt, found.token
        if prompt is None or token is None or prompt == token:
            return found
        if not self.stages.known:
            short = self.lacks(token) <= SHORT_PROMPT_TOKENS
            return self.on(token, Reason.SHORT_PROMPT) if short else found
        best = self.best_alone()
        if best is None:
            return found
        link = self.links.cost(prompt, token, self.lacks(token), 0)
        apart = link.failing, self.seconds(prompt, token, link.seen_s)
        cheaper = (False, self.alone_s(best)) < apart
        return self.on(best, Reason.CHEAPER_TOGETHER) if cheaper else found

    def best_alone(self) -> int | None:
        roles = [role for role in Role if role in self.mixing.whole_roles]
        return min(self.room(self.total, *roles), key=self.alone_s, default=None)

    def placement(self) -> Placement:
        if self.mixing.disaggregation is Disaggregation.NEVER:
            best = self.best_alone()
            if best is None:
                return Placement(None, None, Reason.NO_CAPACITY)
            return self.on(best, Reason.ONE_WORKER)
        found = self.pair()
        if self.mixing.borrowing:
            found = self.borrowed(found)
        if self.mixing.disaggregation is Disaggregation.AUTO:
            found = self.cheaper(found)
        return found


def plain_place(
    fleet: FleetView,
    prompt_tokens: int,
    max_tokens: int,
    overflow_tokens: int,
    links: LinkView,
    cached: Mapping[int, int],
    mixing: Mixing,
    stages: StageView,
) -> Placement:
    """As `policy.routing.place`."""
    asked = (prompt_tokens, max_tokens, overflow_tokens, links, cached, mixing, stages)
    scenes = [
        Plain(fleet, revision, *asked)
        for revision in dict.fromkeys(fleet.members.revision.tolist())
        if Plain(fleet, revision, *asked).ready(*Role)
    ]
    made = [(scene, scene.placement()) for scene in scenes]

    def cost(scene: Plain, placement: Placement) -> Cost:
        assert placement.prompt is not None
        if placement.token is None:
            return Cost(False, scene.prompt_queue(placement.prompt), 0.0)
        return scene.cost(placement.prompt, placement.token)

    if found := [(cost(*one), number) for number, one in enumerate(made) if one[1].found]:
        return made[min(found)[1]][1]
    why = [placement.reason for _, placement in made] or [Reason.NO_PROMPT_WORKER]
    return Placement(None, None, Reason.NO_CAPACITY if Reason.NO_CAPACITY in why else why[0])
