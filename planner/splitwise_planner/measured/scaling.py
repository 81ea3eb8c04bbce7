"""Pools that grow and shrink in virtual time, by the law that the operator runs.

Every `LOOK_S` the workers of each pool are asked for their load, as the operator asks them, and
`core.policy.scaling` says how many there should be. A worker that is added serves after
`start_s`; one that is taken away gets no new work, and is gone when it has ended what it has.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from math import ceil
from typing import Final

from splitwise_core.errors import UserError
from splitwise_core.policy.roles import Role
from splitwise_core.policy.scaling import Counts, Law, Pool, State, WorkerLoad, decide, observe
from splitwise_core.policy.scaling.signals import Held, Memory, Reading, reading, with_lent
from splitwise_planner.design import Design
from splitwise_planner.measured.fleet import Fleet, Shut
from splitwise_planner.measured.rules import BLOCK_TOKENS, MAX_SEQUENCES, blocks_for
from splitwise_planner.measured.worker import Job, Phase

LOOK_S: Final = 2.0
"""Between two looks of the operator."""

LONGEST_START_S: Final = 86_400.0

_LEAST: Final = re.compile(r"(\d+)P(?:-(\d+)T|_T)")


@dataclass(frozen=True, slots=True)
class Scaling:
    """The least machines of each phase, of which a design has the most, and how long one takes to
    serve. `token` is 0 where each machine does both."""

    prompt: int
    token: int
    start_s: float


@dataclass(frozen=True, slots=True)
class Sized:
    """From `at_s` on, so many machines of each phase are paid for: those whose workers start, serve
    or end their work."""

    at_s: float
    prompt: int
    token: int


class Stage(Enum):
    """Where a worker is in its life."""

    OFF = auto()
    STARTING = auto()
    SERVING = auto()
    DRAINING = auto()


@dataclass(slots=True)
class _Pool:
    """Workers by number; `desired` of them should be there."""

    name: str
    role: Role
    law: Law
    workers: Sequence[int]
    desired: int
    state: State = field(default_factory=State)
    memory: Memory = field(default_factory=dict)


class Autoscaler:
    """The pools of a cluster. `look` every `LOOK_S`; `sizes` is what came of it."""

    def __init__(self, fleet: Fleet, roles: Sequence[Role], scaling: Scaling, per_machine: int):
        self.sizes: list[Sized] = []
        self._fleet = fleet
        self._start_s = scaling.start_s
        self._per_machine = per_machine
        self._stages = [Stage.OFF] * len(roles)
        least = {Role.PROMPT: scaling.prompt, Role.MIXED: scaling.prompt, Role.TOKEN: scaling.token}
        self._pools = []
        for role in dict.fromkeys(roles):
            workers = [number for number, its in enumerate(roles) if its == role]
            law = Law(role, least[role] * per_machine, len(workers))
            self._pools.append(_Pool(role.name.lower(), role, law, workers, law.least))
        for pool in self._pools:
            for number in pool.workers[pool.desired :]:
                fleet.close(number, Shut.OFF)
            for number in pool.workers[: pool.desired]:
                self._stages[number] = Stage.SERVING

    def look(self, jobs: Collection[Job], at_s: float) -> list[tuple[float, int]]:
        """Asks all workers for their load and changes pools; which ones will serve, and when.

        `jobs` are all that have been placed.
        """
        held = _held(self._fleet, jobs)
        readings = self._readings(_loads(self._fleet, jobs), held, at_s)
        asked = {}
        for pool in self._pools:
            starting = sum(self._stages[n] is Stage.STARTING for n in pool.workers)
            counts = Counts(pool.desired, len(self._heard(pool)), starting)
            pool.state = observe(pool.state, pool.law, counts, readings[pool.name], at_s)
            asked[pool.name] = Pool(counts, pool.role, pool.law, pool.state)
        made = decide(asked, None, held.requests, at_s)
        starting_now: list[tuple[float, int]] = []
        for pool in self._pools:
            decision, pool.state = made[pool.name]
            pool.desired = decision.replicas
            starting_now += self._resize(pool, at_s)
        self._note(at_s)
        return starting_now

    def _readings(
        self, loads: Sequence[WorkerLoad], held: Held, at_s: float
    ) -> dict[str, Reading | None]:
        """What the pools say; prompts on borrowed workers are counted for the prompt pool."""
        made: dict[str, Reading | None] = {}
        for pool in self._pools:
            heard = {str(n): loads[n] for n in self._heard(pool)}
            made[pool.name] = None
            if heard:
                serving = sum(self._stages[n] is Stage.SERVING for n in pool.workers)
                made[pool.name], pool.memory = reading(
                    pool.memory, heard, serving - len(heard), held, at_s, at_s - LOOK_S
                )
        return with_lent(made, {pool.name: pool.role for pool in self._pools})

    def _heard(self, pool: _Pool) -> list[int]:
        """The workers of a pool that serve and answer."""
        return [
            number
            for number in pool.workers
            if self._stages[number] is Stage.SERVING and not self._fleet.workers[number].is_dead
        ]

    def serves(self, number: int) -> None:
        """A worker that was started is ready, unless it is wanted no more."""
        if self._stages[number] is Stage.STARTING:
            self._stages[number] = Stage.SERVING
            self._fleet.open(number, Shut.OFF)

    def _resize(self, pool: _Pool, at_s: float) -> list[tuple[float, int]]:
        """Starts what lacks, and drains what is too much, those with the least to do first."""
        for number in pool.workers:
            if self._stages[number] is Stage.DRAINING and not self._fleet.legs(number):
                self._stages[number] = Stage.OFF
        own = [n for n in pool.workers if self._stages[n] in (Stage.STARTING, Stage.SERVING)]
        off = [n for n in pool.workers if self._stages[n] is Stage.OFF]
        started = off[: max(0, pool.desired - len(own))]
        for number in started:
            self._stages[number] = Stage.STARTING
            worker = self._fleet.workers[number]
            self._fleet.lending.begin_anew(number, worker, at_s)
            self._fleet.workers[number] = worker.reborn()
        own.sort(key=lambda n: (self._stages[n] is Stage.SERVING, self._fleet.legs(n)))
        for number in own[: max(0, len(own) - pool.desired)]:
            self._stages[number] = Stage.DRAINING
            self._fleet.close(number, Shut.OFF)
        return [(at_s + self._start_s, number) for number in started]

    def _note(self, at_s: float) -> None:
        """What is paid for, where that has changed."""
        paid = {
            pool.role: ceil(
                sum(self._stages[n] is not Stage.OFF for n in pool.workers) / self._per_machine
            )
            for pool in self._pools
        }
        now = Sized(at_s, paid.get(Role.PROMPT, paid.get(Role.MIXED, 0)), paid.get(Role.TOKEN, 0))
        if not self.sizes or replace(now, at_s=self.sizes[-1].at_s) != self.sizes[-1]:
            self.sizes.append(now)


def _loads(fleet: Fleet, jobs: Collection[Job]) -> list[WorkerLoad]:
    """What each worker says of itself, counted from what has been placed on it. Blocks that several
    requests share are those of the first."""
    said = [Counter[str]() for _ in fleet.workers]
    for job in jobs:
        prompt, total = (_room(tokens) for tokens in (job.prompt, job.prompt + job.output))
        if job.phase is Phase.PLACED:
            here = (total if job.stays else prompt) - job.found
            said[job.prompt_worker].update(queued_tokens=job.to_compute, waiting=1, kv_waiting=here)
        if job.phase is Phase.THERE:
            found = job.found if job.stays else job.found_there
            said[job.needed[0]].update(taken=1, kv_taken=total - found)
        elif not job.stays:
            said[job.token_worker].update(reserved=1, kv_reserved=total - job.found_there)
    return [
        WorkerLoad(
            life=worker.life,
            kv_capacity=worker.hardware.blocks * BLOCK_TOKENS,
            max_sequences=MAX_SEQUENCES,
            prompts_total=worker.usage.prompts,
            prompt_tokens_total=worker.usage.prompt_tokens,
            prompt_s_total=worker.usage.prompt_s,
            steps_total=worker.usage.steps,
            step_s_total=worker.usage.token_s,
            step_tokens_total=worker.usage.step_tokens,
            queued_tokens=counts["queued_tokens"],
            waiting=counts["waiting"],
            kv_waiting=counts["kv_waiting"],
            taken=counts["taken"],
            kv_taken=counts["kv_taken"],
            reserved=counts["reserved"],
            kv_reserved=counts["kv_reserved"],
        )
        for worker, counts in zip(fleet.workers, said, strict=True)
    ]


def _held(fleet: Fleet, jobs: Collection[Job]) -> Held:
    """What waits at the router."""
    reserved = sum(job.phase < Phase.THERE and not job.stays for job in jobs)
    early = sum(job.phase is Phase.PLACED and not job.stays for job in jobs)
    waiting = fleet.waiting
    return Held(
        len(waiting),
        sum(job.prompt for job in waiting),
        sum(_room(job.prompt + job.output) for job in waiting),
        early / reserved if reserved else 0.0,
    )


def _room(tokens: int) -> int:
    """Tokens of whole blocks."""
    return blocks_for(tokens) * BLOCK_TOKENS


def scaling_of(least: str | None, start_s: float, design: Design) -> Scaling | None:
    """As it is asked for, such as 2P-1T or, of a baseline, 2P_T; None where pools keep their size.

    Raises UserError (invalid-plan).
    """
    if least is None:
        return None
    match = _LEAST.fullmatch(least)
    prompt, token = (int(n or 0) for n in match.groups()) if match else (0, 0)
    splits = match is not None and match[2] is not None
    if match is None or splits != design.splits or prompt < 1 or (splits and token < 1):
        fix = "write 2P-1T" if design.splits else "write 2P_T"
        raise _refused("--autoscale", f"is {least!r}", f"{fix}: the least machines of each phase")
    if prompt > design.prompt or token > design.token:
        wrong = f"{least} is more than {design} has"
        raise _refused("--autoscale", wrong, "a design has the most machines of each phase")
    if not 0 <= start_s <= LONGEST_START_S:
        raise _refused("--start", f"is {start_s:g}", f"give 0 to {LONGEST_START_S:g} seconds")
    return Scaling(prompt, token, start_s)


def _refused(where: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-plan", where=where, wrong=wrong, fix=fix)
