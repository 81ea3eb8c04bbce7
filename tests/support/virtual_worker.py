"""A worker of the fleet in virtual time: what it is, what is on it, and what it says of itself."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from splitwise_core.policy import stages
from splitwise_core.policy.batching import Preempted
from splitwise_core.policy.duty import Duty
from splitwise_core.policy.routing import FleetView, Members, Role
from splitwise_core.policy.scaling import WorkerLoad
from splitwise_core.policy.scaling.signals import BOUNDS_S, bucket
from splitwise_core.policy.stages import StageView

BLOCK: Final = 16


@dataclass(frozen=True, slots=True)
class Machine:
    """What a worker is: speeds, room, and how long it takes to start."""

    prompt_tokens_per_s: float = 5000.0
    step_base_s: float = 0.02
    step_slope_s: float = 0.0005
    kv_tokens: int = 65536
    max_sequences: int = 64
    start_s: float = 30.0
    transfer_s: float = 0.02


@dataclass(slots=True, eq=False)
class Request:
    """One request; times are those of its life."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    first_s: float = -1.0
    done_s: float = -1.0
    prompt: "Worker | None" = None
    token: "Worker | None" = None
    left: int = field(init=False)  # of the prompt, to be computed

    def __post_init__(self) -> None:
        self.left = self.prompt_tokens

    @property
    def kv_tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


@dataclass(slots=True, eq=False)
class Worker:
    """One worker and everything that is on it."""

    name: str
    pool: str
    role: Role
    machine: Machine
    ready_s: float
    draining: bool = False
    waiting: deque[Request] = field(default_factory=deque)
    sending: int = 0
    sending_kv: int = 0
    running: list[tuple[float, int, Request]] = field(default_factory=list)  # by pace at the end
    reserved: int = 0  # sequences that have not landed yet
    queued_tokens: int = 0
    kv_waiting: int = 0
    kv_running: int = 0
    kv_reserved: int = 0
    is_computing: bool = False
    computing: list[Request] = field(default_factory=list)  # prompts that this step ends
    preempted: Preempted = field(default_factory=Preempted)
    pace: float = 0.0  # tokens that a sequence has had that was here from the start
    pace_s: float = 0.0
    version: int = 0
    totals: dict[str, Any] = field(default_factory=dict)
    duty: Duty = field(init=False)

    def __post_init__(self) -> None:
        self.duty = Duty(self.role)

    def look(self, now_s: float) -> None:
        prompts = len(self.waiting) + len(self.computing)
        self.duty.look(prompts, len(self.running), now_s)

    @property
    def held(self) -> int:
        prompts = len(self.waiting) + len(self.computing) + self.sending
        return prompts + len(self.running) + self.reserved

    @property
    def kv_taken(self) -> int:
        return self.kv_running + self.kv_reserved

    @property
    def free_tokens(self) -> int:
        return self.machine.kv_tokens - self.kv_waiting - self.kv_taken - self.sending_kv

    def step_s(self) -> float:
        return self.machine.step_base_s + self.machine.step_slope_s * len(self.running)

    def count(self, **grown: float) -> None:
        for name, value in grown.items():
            self.totals[name] = self.totals.get(name, 0) + value

    def note(self, name: str, seconds: float, times: int) -> None:
        counts = self.totals.setdefault(name, [0] * (len(BOUNDS_S) + 1))
        counts[bucket(seconds)] += times

    def load(self) -> WorkerLoad:
        grown = {k: tuple(v) if isinstance(v, list) else v for k, v in self.totals.items()}
        return WorkerLoad(
            life=1,
            kv_capacity=self.machine.kv_tokens,
            max_sequences=self.machine.max_sequences,
            queued_tokens=self.queued_tokens,
            waiting=len(self.computing) + len(self.waiting),
            kv_waiting=self.kv_waiting,
            taken=len(self.running),
            kv_taken=self.kv_running,
            reserved=self.reserved,
            kv_reserved=self.kv_reserved,
            **grown,
        )


def fleet_view(workers: Sequence[Worker]) -> FleetView:
    """What a router knows of these workers: everything."""

    def room(worker: Worker) -> int:
        admits = worker.machine.max_sequences > worker.held
        return max(0, worker.free_tokens) // BLOCK * BLOCK if admits else 0

    return FleetView(
        Members(np.array([w.role for w in workers]), np.zeros(len(workers), np.int64)),
        pending_prompt_tokens=np.array([w.queued_tokens for w in workers]),
        pending_tokens=np.array([w.kv_taken for w in workers]),
        room_tokens=np.array([room(w) for w in workers]),
        borrowed=np.array([w.duty.is_borrowed for w in workers]),
    )


def stage_view(workers: Sequence[Worker], now_s: float) -> StageView:
    """What the stages take on these workers."""
    machines = [w.machine for w in workers]
    return stages.stage_view(
        role=np.array([w.role for w in workers]),
        ready=np.full(len(workers), True),
        prompt_tokens_per_s=np.array([m.prompt_tokens_per_s for m in machines]),
        step_base_s=np.array([m.step_base_s for m in machines]),
        step_slope_s=np.array([m.step_slope_s for m in machines]),
        decoding=np.array([len(w.running) + w.reserved for w in workers]),
        prompt_share=np.array([w.duty.prompt_share(now_s) for w in workers]),
    )
