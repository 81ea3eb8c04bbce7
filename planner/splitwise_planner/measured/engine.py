"""The loop: takes what happens next, in order of time, until nothing is left to happen."""

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Final

import numpy as np

from splitwise_core.policy.roles import Role
from splitwise_planner.design import Design
from splitwise_planner.measured.fleet import FIRST_OUTPUT, Fleet
from splitwise_planner.measured.network import Network
from splitwise_planner.measured.rules import Hardware, Rules
from splitwise_planner.measured.worker import Job, Stretch, Worker
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace

LONGEST_S: Final = 86_400.0
"""A day after the last arrival nothing more is waited for: a cluster that is so far behind is too
small whatever comes."""


@dataclass(frozen=True, slots=True)
class Used:
    """What the workers did. Shares are of all seconds that were computed; `joules` is None where
    the catalogue has no watts. `placements` counts why requests went where they did."""

    beyond_measured: float
    prompt_busy: float  # share of the time of workers that compute prompts
    token_busy: float
    joules: float | None
    seconds: float
    placements: dict[str, int]


def simulate(trace: Trace, design: Design, rules: Rules) -> tuple[Outcome, Used]:
    """What becomes of a trace on a design; deterministic."""
    cluster = _Cluster(trace, design, rules)
    cluster.run()
    return cluster.outcome(trace), cluster.used()


Event = tuple[float, int, int, "Stretch | Job"]
"""Time, order, worker, and what ends there: a stretch, or a transfer to it."""


class _Cluster:
    """All there is at a moment."""

    def __init__(self, trace: Trace, design: Design, rules: Rules) -> None:
        prompts, tokens = design.prompt * rules.workers, design.token * rules.workers
        own = Role.PROMPT if design.splits else Role.MIXED
        kinds = [(rules.prompt, own)] * prompts + [(rules.token, Role.TOKEN)] * tokens
        layers, token_bytes = rules.model.layers, rules.model.kv_bytes_per_token
        self._roles = [role for _, role in kinds]
        self._workers = [Worker(hardware, layers) for hardware, _ in kinds]
        self._fleet = Fleet(self._workers, self._roles)
        self._network = Network(self._workers, layers, token_bytes)
        self._events: list[Event] = []
        self._order = 0
        self._now_s = 0.0
        self._ended: list[Job] = []
        order = np.argsort(trace.arrival_s, kind="stable").tolist()
        arrivals, sizes = trace.arrival_s.tolist(), trace.prompt_tokens.tolist()
        outputs = trace.output_tokens.tolist()
        self._jobs = [Job(i, arrivals[i], sizes[i], outputs[i], sizes[i]) for i in order]

    def run(self) -> None:
        """Lets everything happen."""
        end_s = (self._jobs[-1].arrival_s if self._jobs else 0.0) + LONGEST_S
        for job in self._jobs:
            self._happen(job.arrival_s)
            self._now_s = job.arrival_s
            if self._fleet.can_ever_take(job):
                self._fleet.waiting.append(job)
                if len(self._fleet.waiting) == 1:
                    self._place()
        self._happen(inf, end_s)

    def _happen(self, until_s: float, end_s: float = inf) -> None:
        """All events before a time."""
        events = self._events
        while events and events[0][0] < until_s and events[0][0] < end_s:
            self._now_s, _, number, what = heappop(events)
            if isinstance(what, Job):
                self._arrived(what)
            elif self._workers[number].stretch is what:  # else it was cut
                self._stretch_ends(number, what)

    def _stretch_ends(self, number: int, stretch: Stretch) -> None:
        worker = self._workers[number]
        prompted, ended = worker.finish()
        for job in prompted:
            self._prompt_ends(job, worker, stretch.began_s)
        for job in ended:
            self._job_ends(job)
        self._fleet.refresh(number)
        self._go_on(number)
        if prompted or ended:
            self._place()

    def _prompt_ends(self, job: Job, worker: Worker, began_s: float) -> None:
        job.first_token_s = self._now_s
        self._fleet.prompt_done(job)
        if job.output <= FIRST_OUTPUT:
            self._job_ends(job)
        elif job.stays:
            worker.joining.append(job)
        else:
            there_s = self._network.move(job, began_s, self._now_s)
            self._foresee(there_s, job.token_worker, job)

    def _arrived(self, job: Job) -> None:
        """A sequence's KV is where it decodes."""
        self._workers[job.token_worker].joining.append(job)
        self._fleet.handed_over(job)
        self._wake(job.token_worker)
        self._place()

    def _job_ends(self, job: Job) -> None:
        job.ended_s = self._now_s
        self._ended.append(job)
        self._fleet.ended(job)

    def _place(self) -> None:
        """Sends those that wait, in their order, as long as there is room."""
        waiting = self._fleet.waiting
        while waiting and self._fleet.has_room_to_decode(waiting[0]):
            placement = self._fleet.find(waiting[0])
            if placement.prompt is None:
                return
            job = waiting.popleft()
            self._fleet.claim(job, placement)
            self._workers[placement.prompt].waiting.append(job)
            self._wake(placement.prompt)

    def _wake(self, number: int) -> None:
        """A worker has more to do: at once when it is idle, else after the step of now."""
        worker = self._workers[number]
        if worker.stretch is None:
            self._go_on(number)
        elif (cut := worker.cut(self._now_s)) is not None:
            self._foresee(cut.ends_s, number, cut)

    def _go_on(self, number: int) -> None:
        if (stretch := self._workers[number].begin(self._now_s)) is not None:
            self._foresee(stretch.ends_s, number, stretch)

    def _foresee(self, at_s: float, number: int, what: Stretch | Job) -> None:
        self._order += 1
        heappush(self._events, (at_s, self._order, number, what))

    def outcome(self, trace: Trace) -> Outcome:
        """The requests that ended, in that order."""
        jobs = self._ended
        order = np.array([job.number for job in jobs], np.int64)
        arrival_s = trace.arrival_s[order]
        first_s = np.array([job.first_token_s for job in jobs])
        decoding_s = np.array([max(job.decoding_s, job.first_token_s) for job in jobs])
        return Outcome(
            request_id=trace.request_id[order],
            e2e_s=np.array([job.ended_s for job in jobs]) - arrival_s,
            queue_s=np.array([job.started_s for job in jobs]) - arrival_s,
            ttft_s=first_s - arrival_s,
            second_token_s=decoding_s - first_s,
            prompt_tokens=trace.prompt_tokens[order],
            output_tokens=trace.output_tokens[order],
            unfinished=len(trace) - len(jobs),
        )

    def used(self) -> Used:
        """What the workers did, from the first arrival to the last end."""
        first_s = self._jobs[0].arrival_s if self._jobs else 0.0
        seconds = max(self._now_s - first_s, 1e-9)
        usages = [worker.usage for worker in self._workers]
        computed = sum(usage.prompt_s + usage.token_s for usage in usages)
        beyond = sum(usage.beyond_s for usage in usages)
        joules = [_joules(worker.hardware, worker, seconds) for worker in self._workers]
        return Used(
            beyond_measured=beyond / computed if computed else 0.0,
            prompt_busy=self._busy(seconds, Role.PROMPT),
            token_busy=self._busy(seconds, Role.TOKEN),
            joules=None if None in joules else sum(j for j in joules if j is not None),
            seconds=seconds,
            placements={reason.value: n for reason, n in sorted(self._fleet.reasons.items())},
        )

    def _busy(self, seconds: float, role: Role) -> float:
        """The share of time that workers of a role, or mixed ones, computed."""
        own: Sequence[Worker] = [
            worker for worker, its in zip(self._workers, self._roles) if its in (role, Role.MIXED)
        ]
        computed = sum(worker.usage.prompt_s + worker.usage.token_s for worker in own)
        return computed / (seconds * len(own)) if own else 0.0


def _joules(hardware: Hardware, worker: Worker, seconds: float) -> float | None:
    if hardware.power is None:
        return None
    usage = worker.usage
    idle_s = max(seconds - usage.prompt_s - usage.token_s, 0.0)
    return hardware.power.joules(usage.prompt_s, usage.token_s, idle_s)
