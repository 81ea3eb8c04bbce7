"""A fleet in virtual time: the policies of routing, batching and scaling, called as they are.

Prompts are computed batch by batch; what decodes on one worker goes on at the pace that so many
sequences have, and only their ends are events; every two seconds the pools are looked at. No clock
and no randomness: the same arrivals make the same run.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import inf
from typing import Final

import numpy as np

from splitwise_core.policy.batching import StepKind, next_step
from splitwise_core.policy.link import Link
from splitwise_core.policy.links import NO_LINKS, LinkView
from splitwise_core.policy.mixing import FIXED, Disaggregation, Mixing
from splitwise_core.policy.routing import Role, place
from splitwise_core.policy.scaling import (
    Counts,
    Held,
    Law,
    Pool,
    Ratio,
    Reading,
    Reason,
    State,
    decide,
    observe,
    reading,
)
from splitwise_core.policy.scaling.signals import Memory, with_lent
from splitwise_router.intake import Intake
from tests.support.virtual_worker import Machine, Request, Worker, fleet_view, stage_view

LOOK_S: Final = 2.0
OVERFLOW: Final = 8192


@dataclass(frozen=True, slots=True)
class Change:
    """One decision that changed a pool."""

    at_s: float
    pool: str
    before: int
    after: int
    reason: Reason


@dataclass(slots=True)
class PoolOf:
    """A pool of the fleet."""

    role: Role
    law: Law | None
    desired: int
    machine: Machine = field(default_factory=Machine)
    nodes: int = 1000
    state: State = field(default_factory=State)
    memory: Memory = field(default_factory=dict)


class VirtualFleet:
    """The fleet. `run` it, then look at `changes`, `requests` and `pools`."""

    def __init__(
        self,
        pools: Mapping[str, PoolOf],
        arrivals: Iterable[tuple[float, int, int]],
        ratio: Ratio | None = None,
        on_look: Callable[[float, str, Reading | None, Counts], None] = lambda *_: None,
        mixing: Mixing = FIXED,
        most_queued: int | None = None,
    ) -> None:
        """`most_queued`: requests that may wait; who comes beyond them is turned away."""
        self.pools = dict(pools)
        self.ratio = ratio
        self.mixing = mixing
        self.requests: list[Request] = []
        self.refused: list[Request] = []
        self.changes: list[Change] = []
        self.sizes: list[tuple[float, dict[str, int]]] = []
        self.workers: list[Worker] = []
        self.now = 0.0
        self._on_look = on_look
        self._arrivals = iter(arrivals)
        self._queue: deque[Request] = deque()
        self._most_queued = most_queued
        self._intake = Intake()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        for name, pool in self.pools.items():
            for _ in range(pool.desired):
                self._add(name, ready_s=0.0)

    def run(self, until_s: float) -> "VirtualFleet":
        """Goes on until then."""
        if not self._events:
            self._at(0.0, self._look)
            self._next_arrival()
        while self._events and self._events[0][0] <= until_s:
            self.now, _, do = heapq.heappop(self._events)
            do()
        return self

    def _at(self, at_s: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._numbers), do))

    # ---- requests ----

    def _next_arrival(self) -> None:
        if (arrival := next(self._arrivals, None)) is not None:
            request = Request(*arrival)
            self._at(request.at_s, lambda: self._arrive(request))

    def _arrive(self, request: Request) -> None:
        self._next_arrival()
        if self._most_queued is not None and len(self._queue) >= self._most_queued:
            self.refused.append(request)
            self._intake.refused.note(request.prompt_tokens, self.now)
            return
        self.requests.append(request)
        self._queue.append(request)
        self._pump()

    def _pump(self) -> None:
        while self._queue and self._place(self._queue[0]):
            placed = self._queue.popleft()
            self._intake.placed.note(placed.prompt_tokens, self.now)

    def _links(self, workers: Sequence[Worker]) -> LinkView:
        """What links cost where placement asks: a time alone, however much is moved."""
        if self.mixing.disaggregation is not Disaggregation.AUTO:
            return NO_LINKS
        numbers = range(len(workers))
        known = {
            n: dict.fromkeys(numbers, Link(workers[n].machine.transfer_s, inf, False))
            for n in numbers
        }
        speeds = np.array([w.machine.prompt_tokens_per_s for w in workers])
        return LinkView(np.arange(len(workers)), speeds, known)

    def _place(self, request: Request) -> bool:
        workers = [w for w in self.workers if not w.draining and w.ready_s <= self.now]
        for worker in workers:
            worker.look(self.now)
        found = place(
            fleet_view(workers),
            request.prompt_tokens,
            request.output_tokens,
            OVERFLOW,
            links=self._links(workers),
            mixing=self.mixing,
            stages=stage_view(workers, self.now),
        )
        if found.prompt is None:
            return False
        request.prompt = workers[found.prompt]
        request.token = workers[found.token] if found.token is not None else None
        request.prompt.waiting.append(request)
        request.prompt.queued_tokens += request.prompt_tokens
        request.prompt.kv_waiting += request.prompt_tokens
        if request.token is not None:
            request.token.reserved += 1
            request.token.kv_reserved += request.kv_tokens
        self._go_on(request.prompt)
        return True

    def _go_on(self, worker: Worker) -> None:
        """Begins what comes next on a worker that computes no prompt now."""
        if worker.is_computing or not worker.waiting:
            return
        left = [request.left for request in worker.waiting]
        step = next_step(left, len(worker.running), worker.preempted)
        worker.preempted = worker.preempted.after(step, len(worker.running))
        self._advance(worker)
        worker.is_computing = True
        for request, tokens in zip(worker.waiting, step.prompt_tokens):
            request.left -= tokens
        while worker.waiting and not worker.waiting[0].left:
            worker.computing.append(worker.waiting.popleft())
        tokens_now = sum(step.prompt_tokens)
        took_s = tokens_now / worker.machine.prompt_tokens_per_s
        decoding_s = worker.step_s() if step.kind is StepKind.MIXED else 0.0  # no time is saved
        worker.version += 1  # nobody decodes meanwhile, but in the same step
        self._at(
            self.now + took_s + decoding_s,
            lambda: self._prompted(worker, tokens_now, took_s, decoding_s),
        )

    def _prompted(self, worker: Worker, tokens: int, took_s: float, decoding_s: float) -> None:
        batch, worker.computing = worker.computing, []
        worker.is_computing = False
        if decoding_s:
            self._decoded(worker, 1, decoding_s, took_s + decoding_s)
            self._end(worker)
        worker.queued_tokens -= tokens
        worker.pace_s = self.now
        worker.count(prompts_total=len(batch), prompt_tokens_total=tokens, prompt_s_total=took_s)
        worker.duty.worked(StepKind.PROMPT, len(batch), took_s, self.now)
        for request in batch:
            request.first_s = self.now
            worker.note("ttft_counts", self.now - request.at_s, 1)
            worker.kv_waiting -= request.prompt_tokens
            if request.token is None:
                request.done_s = self.now
            elif request.token is worker:
                self._land(request)
            else:
                worker.sending += 1
                worker.sending_kv += request.prompt_tokens
                self._at(self.now + worker.machine.transfer_s, lambda r=request: self._hand_over(r))
        self._go_on(worker)
        self._plan(worker)
        self._retire(worker)
        self._pump()

    def _hand_over(self, request: Request) -> None:
        assert request.prompt is not None
        request.prompt.sending -= 1
        request.prompt.sending_kv -= request.prompt_tokens
        self._land(request)
        self._retire(request.prompt)
        self._pump()

    def _land(self, request: Request) -> None:
        worker = request.token
        assert worker is not None
        self._advance(worker)
        worker.reserved -= 1
        worker.kv_reserved -= request.kv_tokens
        worker.kv_running += request.kv_tokens
        end = worker.pace + max(1, request.output_tokens - 1)
        heapq.heappush(worker.running, (end, next(self._numbers), request))
        self._plan(worker)

    def _advance(self, worker: Worker) -> None:
        """Brings the pace of what decodes up to now."""
        since_s = self.now - worker.pace_s
        if worker.running and not worker.is_computing and since_s > 0:
            self._decoded(worker, since_s / worker.step_s(), since_s, worker.step_s())
        worker.pace_s = self.now

    def _decoded(self, worker: Worker, steps: float, seconds: float, tbt_s: float) -> None:
        worker.pace += steps
        tokens = steps * len(worker.running)
        worker.count(steps_total=steps, step_s_total=seconds, step_tokens_total=tokens)
        worker.note("tbt_counts", tbt_s, round(tokens))
        worker.duty.worked(StepKind.TOKEN, len(worker.running), seconds, self.now)

    def _plan(self, worker: Worker) -> None:
        """The next end of a sequence, unless something comes in between."""
        worker.version += 1
        if not worker.running or worker.is_computing:
            return
        version = worker.version
        left = max(0.0, worker.running[0][0] - worker.pace)
        self._at(self.now + left * worker.step_s(), lambda: self._finish(worker, version))

    def _finish(self, worker: Worker, version: int) -> None:
        if version != worker.version:
            return
        self._advance(worker)
        self._end(worker)
        self._plan(worker)
        self._retire(worker)
        self._pump()

    def _end(self, worker: Worker) -> None:
        """Lets go of sequences that have had their last token."""
        while worker.running and worker.running[0][0] <= worker.pace + 1e-6:
            _, _, request = heapq.heappop(worker.running)
            request.done_s = self.now
            worker.kv_running -= request.kv_tokens

    # ---- pools ----

    def _add(self, pool: str, ready_s: float) -> None:
        own = self.pools[pool]
        name = f"{pool}-{next(self._numbers)}"
        self.workers.append(Worker(name, pool, own.role, own.machine, ready_s))

    def _retire(self, worker: Worker) -> None:
        if worker.draining and worker.held == 0 and worker in self.workers:
            self.workers.remove(worker)

    def of(self, pool: str) -> list[Worker]:
        """A pool's workers that stay."""
        return [w for w in self.workers if w.pool == pool and not w.draining]

    def _counts(self, name: str) -> Counts:
        own = self.of(name)
        ready = sum(w.ready_s <= self.now for w in own)
        return Counts(self.pools[name].desired, ready, len(own) - ready)

    def _look(self) -> None:
        reserved = sum(w.reserved for w in self.workers)
        waiting = sum(len(w.waiting) + len(w.computing) for w in self.workers)
        held = Held(
            len(self._queue),
            sum(r.prompt_tokens for r in self._queue),
            sum(r.kv_tokens for r in self._queue),
            min(1.0, waiting / reserved) if reserved else 0.0,
            self._intake.placed.tokens(self.now),
            self._intake.refused.tokens(self.now),
        )
        asked, readings = {}, dict[str, Reading | None]()
        for name, pool in self.pools.items():
            ready = [w for w in self.of(name) if w.ready_s <= self.now]
            for worker in ready:
                self._advance(worker)
                self._plan(worker)
            readings[name] = None
            if said := {w.name: w.load() for w in ready}:
                readings[name], pool.memory = reading(
                    pool.memory, said, 0, held, self.now, self.now - LOOK_S
                )
        readings = with_lent(readings, {name: pool.role for name, pool in self.pools.items()})
        for name, pool in self.pools.items():
            now = readings[name]
            counts = self._counts(name)
            self._on_look(self.now, name, now, counts)
            if pool.law is not None:
                pool.state = observe(pool.state, pool.law, counts, now, self.now)
            asked[name] = Pool(counts, pool.role, pool.law, pool.state)
        for name, (made, state) in decide(asked, self.ratio, held.requests, self.now).items():
            pool = self.pools[name]
            pool.state = state
            if made.replicas != pool.desired:
                was, pool.desired = pool.desired, made.replicas
                self.changes.append(Change(self.now, name, was, pool.desired, made.reason))
        for name in self.pools:
            self._resize(name)
        self.sizes.append((self.now, {name: own.desired for name, own in self.pools.items()}))
        self._at(self.now + LOOK_S, self._look)

    def _resize(self, name: str) -> None:
        """Starts workers where there are nodes; those with the least to do go first."""
        pool, own = self.pools[name], self.of(name)
        on_nodes = sum(w.pool == name for w in self.workers)
        for _ in range(min(pool.desired - len(own), pool.nodes - on_nodes)):
            ready_s = self.now + pool.machine.start_s
            self._add(name, ready_s)
            self._at(ready_s, self._pump)
        least_first = sorted(own, key=lambda w: (w.ready_s <= self.now, w.held))
        for worker in least_first[: max(0, len(own) - pool.desired)]:
            worker.draining = True
            self._retire(worker)
