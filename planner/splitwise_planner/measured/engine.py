"""The loop: takes what happens next, in order of time, until nothing is left to happen."""

from collections.abc import Sequence
from dataclasses import replace
from heapq import heappop, heappush
from math import inf
from typing import Final

import numpy as np

from splitwise_core.policy.roles import Role
from splitwise_planner.design import Design
from splitwise_planner.measured.broken_links import Break, LinkChange, Links
from splitwise_planner.measured.failures import RETRIES, Change, Failure
from splitwise_planner.measured.fleet import FIRST_OUTPUT, Fleet, Shut
from splitwise_planner.measured.network import Network
from splitwise_planner.measured.prefixes import Prefixes
from splitwise_planner.measured.rules import Rules
from splitwise_planner.measured.scaling import LOOK_S, Autoscaler, Scaling
from splitwise_planner.measured.used import Used, outcome_of, used_of
from splitwise_planner.measured.worker import NOBODY, Job, Phase, Stretch, Worker
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace

LONGEST_S: Final = 86_400.0
"""A day after the last arrival nothing more is waited for: a cluster that is so far behind is too
small whatever comes."""


def simulate(
    trace: Trace,
    design: Design,
    rules: Rules,
    failures: Sequence[Failure] = (),
    scaling: Scaling | None = None,
    breaks: Sequence[Break] = (),
) -> tuple[Outcome, Used]:
    """What becomes of a trace on a design whose machines and links may fail, and whose pools may be
    smaller than it; deterministic."""
    cluster = _Cluster(trace, design, rules, failures, scaling, breaks)
    cluster.run()
    return outcome_of(trace, cluster.ended), cluster.used()


Event = tuple[float, int, int, "Stretch | Job | Change | LinkChange"]
"""Time, order, and what happens to which worker, machine or link: a stretch ends there, a prompt or
KV has reached it, or it dies or is back."""


class _Cluster:
    """All there is at a moment."""

    def __init__(
        self,
        trace: Trace,
        design: Design,
        rules: Rules,
        failures: Sequence[Failure],
        scaling: Scaling | None,
        breaks: Sequence[Break],
    ) -> None:
        prompts, tokens = design.prompt * rules.workers, design.token * rules.workers
        own = Role.PROMPT if design.splits else Role.MIXED
        kinds = [(rules.prompt, own)] * prompts + [(rules.token, Role.TOKEN)] * tokens
        layers, token_bytes = rules.model.layers, rules.model.kv_bytes_per_token
        self._roles = [role for _, role in kinds]
        self._workers = [Worker(hardware, layers) for hardware, _ in kinds]
        self._prefixes = Prefixes(trace, self._workers) if trace.prefix_ids else None
        self._breaks = breaks
        self._links = Links(prompts, tokens, rules.workers)
        self._fleet = Fleet(self._workers, self._roles, rules.mixing, self._prefixes, self._links)
        self._lending = self._fleet.lending
        self._lent = self._lending.lent
        self._network = Network(self._workers, layers, token_bytes)
        self._events: list[Event] = []
        self._order = 0
        self._now_s = 0.0
        self.ended: list[Job] = []
        self._per_machine = rules.workers
        self._under_way: dict[int, Job] = {}
        self._retries = self._given_up = 0
        self._arriving = True
        order = np.argsort(trace.arrival_s, kind="stable").tolist()
        arrivals, sizes = trace.arrival_s.tolist(), trace.prompt_tokens.tolist()
        outputs = trace.output_tokens.tolist()
        self._jobs = [Job(i, arrivals[i], sizes[i], outputs[i], sizes[i]) for i in order]
        self._failures = failures
        self._autoscaler = None
        if scaling is not None:
            self._autoscaler = Autoscaler(self._fleet, self._roles, scaling, rules.workers)

    def run(self) -> None:
        """Lets everything happen."""
        end_s = (self._jobs[-1].arrival_s if self._jobs else 0.0) + LONGEST_S
        for failure in self._failures:
            for at_s, change in failure.changes:
                self._foresee(at_s, failure.machine, change)
        for number, broken in enumerate(self._breaks):
            for at_s, change_of_link in broken.changes:
                self._foresee(at_s, number, change_of_link)
        if self._autoscaler is not None and self._jobs:
            self._foresee(self._jobs[0].arrival_s, NOBODY, Change.LOOK)
        for job in self._jobs:
            self._happen(job.arrival_s)
            self._now_s = job.arrival_s
            if self._fleet.can_ever_take(job):
                self._fleet.waiting.append(job)
                if len(self._fleet.waiting) == 1:
                    self._place()
        self._arriving = False
        self._happen(inf, end_s)
        self._lending.end()

    def _happen(self, until_s: float, end_s: float = inf) -> None:
        """All events before a time."""
        events = self._events
        while events and events[0][0] < until_s and events[0][0] < end_s:
            self._now_s, _, number, what = heappop(events)
            if isinstance(what, Change):
                self._change(number, what)
            elif isinstance(what, LinkChange):
                self._links.change(self._breaks[number], what)
            elif isinstance(what, Job):
                self._reached(what, number)
            elif self._workers[number].stretch is what:  # else it was cut
                self._stretch_ends(number, what)

    def _stretch_ends(self, number: int, stretch: Stretch) -> None:
        worker = self._workers[number]
        if number in self._lent:
            self._lending.catch_up(number, worker, self._now_s)
        sequences = len(worker.running)
        prompted, ended = worker.finish()
        # One that is over was lost with the worker that was to decode it.
        leaving = [job for job in prompted if job.phase is not Phase.OVER and self._leaves(job)]
        if leaving:
            there_s = self._network.move(leaving, stretch.began_s, self._now_s)
            for job, at_s in zip(leaving, there_s):
                self._foresee(at_s, job.token_worker, job)
        for job in ended:
            if job.phase is not Phase.OVER:
                self._job_ends(job)
        self._fleet.worked(number, stretch, sequences)
        self._go_on(number)
        if prompted or ended:
            self._place()

    def _leaves(self, job: Job) -> bool:
        """Takes note that a prompt is done; whether its KV goes to another worker."""
        if job.first_token_s < 0:
            job.first_token_s = self._now_s
        job.phase = Phase.PROMPT_DONE
        self._fleet.prompt_done(job)
        if job.output <= FIRST_OUTPUT:
            self._job_ends(job)
            return False
        if job.stays:
            job.phase = Phase.THERE
            self._workers[job.prompt_worker].joining.append(job)
        return not job.stays

    def _reached(self, job: Job, number: int) -> None:
        """A request, or later its KV, is on the worker."""
        if job.phase is Phase.OVER:
            return
        if job.phase is Phase.PLACED:
            self._fleet.arrived(job)
            self._workers[number].waiting.append(job)
            self._wake(number)
            return
        if self._workers[job.prompt_worker].is_dead:
            return  # what was on its way from there is lost; the router will notice
        if not self._links.works(job.prompt_worker, number):
            self._links.fails(job.prompt_worker, number)
            self._retry(job, FIRST_OUTPUT)
            self._place()
            return
        job.phase = Phase.THERE
        self._workers[number].joining.append(job)
        self._fleet.handed_over(job)
        self._wake(number)
        self._place()

    def _job_ends(self, job: Job) -> None:
        job.ended_s, job.phase = self._now_s, Phase.OVER
        del self._under_way[job.number]
        self.ended.append(job)
        self._fleet.ended(job)

    def _place(self) -> None:
        """Sends those that wait, in their order, as long as there is room."""
        waiting = self._fleet.waiting
        for number in sorted(self._lent) if waiting and self._lent else ():
            self._lending.catch_up(number, self._workers[number], self._now_s)
        while waiting and self._fleet.has_room_to_decode(waiting[0]):
            placement = self._fleet.find(waiting[0], self._now_s)
            if placement.prompt is None:
                return
            job = waiting.popleft()
            self._fleet.claim(job, placement)
            self._under_way[job.number] = job
            way_s = self._workers[placement.prompt].hardware.request_s
            if way_s > 0:
                self._foresee(self._now_s + way_s, placement.prompt, job)
            else:
                self._reached(job, placement.prompt)

    def _change(self, machine: int, change: Change) -> None:
        """A machine dies, is missed by routers, or is back; or pools are looked at."""
        if change in (Change.LOOK, Change.SERVES):
            self._scale(machine, change)
            return
        numbers = range(machine * self._per_machine, (machine + 1) * self._per_machine)
        for number in numbers:
            if change is Change.DIES:
                self._lending.begin_anew(number, self._workers[number], self._now_s)
                self._workers[number].die(self._now_s)
            elif change is Change.IS_MISSED:
                self._lose(number)
            else:
                self._workers[number] = self._workers[number].reborn()
                self._fleet.open(number, Shut.LOST)
        if change is not Change.DIES:
            self._place()

    def _scale(self, number: int, change: Change) -> None:
        """Looks at the pools, as long as there is something to do; or a worker serves."""
        assert self._autoscaler is not None
        if change is Change.SERVES:
            self._autoscaler.serves(number)
            self._place()
            return
        for at_s, started in self._autoscaler.look(self._under_way.values(), self._now_s):
            self._foresee(at_s, started, Change.SERVES)
        if self._arriving or self._under_way or self._fleet.waiting:
            self._foresee(self._now_s + LOOK_S, NOBODY, Change.LOOK)

    def _lose(self, number: int) -> None:
        """Routers take a worker for lost: all that it had a part in begins again elsewhere."""
        self._fleet.close(number, Shut.LOST)
        produced = self._workers[number].produced()
        for job in list(self._under_way.values()):
            if number in job.needed:
                self._retry(job, produced.get(job.number, int(job.phase > Phase.PLACED)))

    def _retry(self, job: Job, produced: int) -> None:
        """Gives back what an attempt has claimed, and asks anew, unless that was done too often."""
        self._fleet.lost(job)
        self._workers[job.prompt_worker].has_lost = True
        job.phase = Phase.OVER
        del self._under_way[job.number]
        if job.failures == RETRIES:
            self._given_up += 1
            return
        self._retries += 1
        self._fleet.waiting.appendleft(job.again(produced))

    def _wake(self, number: int) -> None:
        """A worker has more to do: at once when it is idle, else after the step of now."""
        worker = self._workers[number]
        if worker.stretch is None:
            if number in self._lent:
                self._lending.catch_up(number, worker, self._now_s)
            self._go_on(number)
        elif (cut := worker.cut(self._now_s)) is not None:
            self._foresee(cut.ends_s, number, cut)

    def _go_on(self, number: int) -> None:
        worker = self._workers[number]
        if number in self._lent:
            self._lending.look(number, worker, self._now_s)
        if (stretch := worker.begin(self._now_s)) is not None:
            self._foresee(stretch.ends_s, number, stretch)

    def _foresee(self, at_s: float, number: int, what: Stretch | Job | Change | LinkChange) -> None:
        self._order += 1
        heappush(self._events, (at_s, self._order, number, what))

    def used(self) -> Used:
        """What the workers did, from the first arrival to the last end."""
        first_s = self._jobs[0].arrival_s if self._jobs else 0.0
        last_s = self.ended[-1].ended_s if self.ended else first_s
        return replace(
            used_of(self._workers, self._roles, max(last_s - first_s, 1e-9)),
            placements={reason.value: n for reason, n in sorted(self._fleet.reasons.items())},
            failures=tuple(self._failures),
            breaks=tuple(self._breaks),
            lost_transfers=self._links.lost,
            retries=self._retries,
            given_up=self._given_up,
            hits=self._prefixes.hits if self._prefixes is not None else None,
            loans=tuple(sorted(self._lending.loans, key=lambda loan: loan.from_s)),
            sizes=tuple(self._autoscaler.sizes) if self._autoscaler is not None else (),
        )
