"""The router in virtual time: what it knows of its workers, who waits, and where each request goes.

A view is kept in columns and changed in place, so that `policy.routing.place` reads it as the
router's own. Of links it is told those that fail alone: others of one design's pools are all alike,
and then the shortest queues decide (a test holds the two ways equal).
"""

from collections import Counter, deque
from enum import Enum, auto
from typing import Final

import numpy as np

from splitwise_core.policy.admission import MAX_QUEUE_S, is_committed
from splitwise_core.policy.duty import Duty
from splitwise_core.policy.fleet import NOT_READY
from splitwise_core.policy.mixing import OVERFLOW_TOKENS, Disaggregation, Mixing
from splitwise_core.policy.routing import (
    NOTHING_CACHED,
    FleetView,
    Members,
    Placement,
    Reason,
    Role,
    place,
)
from splitwise_core.policy.stages import NO_STAGES
from splitwise_planner.measured.broken_links import Links
from splitwise_planner.measured.lending import Lending
from splitwise_planner.measured.prefixes import Prefixes
from splitwise_planner.measured.rules import BLOCK_TOKENS, MAX_SEQUENCES, blocks_for
from splitwise_planner.measured.told import Told
from splitwise_planner.measured.worker import NOBODY, Job, Phase, Stretch, Worker

FIRST_OUTPUT: Final = 1  # token of an answer, which the prompt itself gives


class Shut(Enum):
    """Why a worker gets no work."""

    LOST = auto()
    OFF = auto()  # it drains, is gone, or starts


class Fleet:
    """Claims on workers, as a router's sessions count them."""

    def __init__(
        self,
        workers: list[Worker],
        roles: list[Role],
        mixing: Mixing,
        prefixes: Prefixes | None,
        links: Links,
    ) -> None:
        count = len(workers)
        self.workers = workers
        self.reasons: Counter[Reason] = Counter()
        self.waiting: deque[Job] = deque()
        self._mixing = mixing
        self._prefixes = prefixes
        self._links = links
        self._claimed_kv = [0] * count
        self._arriving_kv = [0] * count
        self._legs = [0] * count
        self._shut: list[set[Shut]] = [set() for _ in range(count)]
        self._free = [worker.hardware.blocks for worker in workers]
        self._view = FleetView(
            members=Members(np.array(roles), np.zeros(count, np.int64)),
            pending_prompt_tokens=np.zeros(count, np.int64),
            pending_tokens=np.zeros(count, np.int64),
            room_tokens=np.array(self._free) * BLOCK_TOKENS,
            borrowed=np.zeros(count, np.bool_),
        )
        duties = [Duty(role) for role in roles]
        self.lending = Lending(roles, self._view.borrowed, duties)
        compares = mixing.disaggregation is not Disaggregation.ALWAYS
        self._told = Told(roles, duties) if compares else None
        # Workers that decode come last, or all of them are mixed.
        self._first_to_decode = sum(role == Role.PROMPT for role in roles)
        self._most_prompt = max(
            w.hardware.blocks for w, role in zip(workers, roles) if role != Role.TOKEN
        )
        self._most_total = max(
            w.hardware.blocks for w, role in zip(workers, roles) if role != Role.PROMPT
        )

    def can_ever_take(self, job: Job) -> bool:
        """Whether idle workers had room for it."""
        total = job.prompt + (job.output if job.output > FIRST_OUTPUT else 0)
        if blocks_for(job.prompt) <= self._most_prompt and blocks_for(total) <= self._most_total:
            return True
        whole = blocks_for(job.prompt + job.output)  # on one worker
        return self._mixing.borrowing and whole <= max(self._most_prompt, self._most_total)

    def has_room_to_decode(self, job: Job) -> bool:
        """Whether some worker has blocks for all of it: without one, no placement need be tried."""
        if job.output <= FIRST_OUTPUT:
            return True
        first, needed = self._first_to_decode, blocks_for(job.prompt + job.output)
        if max(self._free[first:]) >= needed:
            return True
        return self._mixing.borrowing and max(self._free[:first], default=0) >= needed

    def find(self, job: Job, now_s: float) -> Placement:
        """Where a request goes now; changes nothing."""
        cached = NOTHING_CACHED if self._prefixes is None else self._prefixes.expected(job)
        stages = NO_STAGES
        if self._told is not None:
            stages = self._told.view(self._view.room_tokens > NOT_READY, now_s)
        return place(
            self._view,
            job.prompt,
            job.output,
            OVERFLOW_TOKENS,
            self._links.view,
            cached=cached,
            mixing=self._mixing,
            stages=stages,
        )

    def claim(self, job: Job, placement: Placement) -> None:
        """Sends it there: both workers' blocks are its own from now on."""
        assert placement.prompt is not None
        self.reasons[placement.reason] += 1
        job.prompt_worker = placement.prompt
        job.token_worker = NOBODY if placement.token is None else placement.token
        if self._prefixes is not None:
            self._prefixes.sent(job)
        if self._told is not None:
            self._told.sent(job)
        for worker, tokens in self._legs_of(job):
            self._claim(worker, job, blocks_for(tokens), 1)
        self._view.pending_prompt_tokens[job.prompt_worker] += job.prompt
        if job.stays:
            self.lending.claim(job)
        else:
            self._arriving_kv[job.token_worker] += job.prompt
            self.refresh(job.token_worker)
        self.refresh(job.prompt_worker)

    def arrived(self, job: Job) -> None:
        """It is on its workers, which look for it in their caches."""
        if self._prefixes is not None:
            self._prefixes.arrive(job)

    def prompt_done(self, job: Job) -> None:
        """Its first token has come: it waits on its prompt worker no more."""
        if self._prefixes is not None:
            self._prefixes.prompt_done(job)
        self._view.pending_prompt_tokens[job.prompt_worker] -= job.prompt
        if job.borrows:
            self.lending.prompt_done(job)
        self.refresh(job.prompt_worker)

    def handed_over(self, job: Job) -> None:
        """Its KV has left the prompt worker, and is where it decodes."""
        if self._prefixes is not None:
            self._prefixes.handed_over(job)
        self._claim(job.prompt_worker, job, blocks_for(job.prompt), -1)
        self._arriving_kv[job.token_worker] -= job.prompt
        self.refresh(job.prompt_worker)
        self.refresh(job.token_worker)

    def ended(self, job: Job) -> None:
        """Its last token has come."""
        if self._prefixes is not None:
            self._prefixes.release(job)
        if self._told is not None:
            self._told.sent(job, -1)
        worker = job.prompt_worker if job.stays else job.token_worker
        if job.borrows:
            self.lending.release(job)
        self._claim(worker, job, blocks_for(job.prompt + job.output), -1)
        self.refresh(worker)

    def lost(self, job: Job) -> None:
        """An attempt comes to nothing: what it has claimed is free again."""
        total = blocks_for(job.prompt + job.output)
        self.lending.release(job)
        if self._told is not None:
            self._told.sent(job, -1)
        if self._prefixes is not None:
            self._prefixes.release(job)
        if job.phase is Phase.PLACED:
            self._view.pending_prompt_tokens[job.prompt_worker] -= job.prompt
        if job.phase is Phase.THERE:
            (worker,) = job.needed
            self._claim(worker, job, total, -1)
        else:
            for worker, tokens in self._legs_of(job):
                self._claim(worker, job, blocks_for(tokens), -1)
            if not job.stays:
                self._arriving_kv[job.token_worker] -= job.prompt
        for worker in {job.prompt_worker, job.token_worker} - {NOBODY}:
            self.refresh(worker)

    def worked(self, number: int, stretch: Stretch, sequences: int) -> None:
        """A worker's stretch has ended, in which so many sequences decoded."""
        if self._told is not None:
            self._told.worked(number, self.workers[number], stretch, sequences)
        self.refresh(number)

    def legs(self, number: int) -> int:
        """Requests that have a part of theirs on a worker."""
        return self._legs[number]

    def close(self, number: int, why: Shut) -> None:
        """A worker is to get nothing more."""
        self._shut[number].add(why)
        self.refresh(number)

    def open(self, number: int, why: Shut) -> None:
        """That is no reason any more."""
        self._shut[number].discard(why)
        self.refresh(number)

    def refresh(self, number: int) -> None:
        """Looks at a worker anew: what it has generated, and how fast it was."""
        if self._shut[number]:
            self._view.room_tokens[number] = NOT_READY
            return
        worker = self.workers[number]
        joining = sum(job.prompt for job in worker.joining)
        held = worker.context + joining + self._arriving_kv[number]
        self._view.pending_tokens[number] = max(held, self._claimed_kv[number])
        queued = self._view.pending_prompt_tokens.item(number)
        committed = is_committed(queued, worker.speed.tokens_per_s, MAX_QUEUE_S)
        admits = self._legs[number] < MAX_SEQUENCES and not committed
        self._view.room_tokens[number] = self._free[number] * BLOCK_TOKENS if admits else 0

    def _legs_of(self, job: Job) -> list[tuple[int, int]]:
        """Workers and the tokens that each reserves."""
        total = job.prompt + job.output
        if job.stays:
            return [(job.prompt_worker, total)]
        return [(job.prompt_worker, job.prompt), (job.token_worker, total)]

    def _claim(self, worker: int, job: Job, blocks: int, sign: int) -> None:
        self._free[worker] -= sign * blocks
        self._legs[worker] += sign
        self._claimed_kv[worker] += sign * job.prompt
