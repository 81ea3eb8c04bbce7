"""What came of a simulation: of its requests, and of its workers, how busy they were, what they
drew, and how many there were."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from splitwise_core.policy.roles import Role
from splitwise_planner.measured.broken_links import Break
from splitwise_planner.measured.failures import Failure
from splitwise_planner.measured.lending import Loan
from splitwise_planner.measured.prefixes import Hits
from splitwise_planner.measured.scaling import Sized
from splitwise_planner.measured.worker import Job, Worker
from splitwise_planner.outcome import Outcome
from splitwise_planner.trace import Trace


@dataclass(frozen=True, slots=True)
class Used:
    """What the workers did. Shares are of all seconds that were computed; `joules` is None where
    the catalogue has no watts. `placements` counts why requests went where they did."""

    beyond_measured: float
    prompt_busy: float  # share of the time of workers that compute prompts
    token_busy: float
    joules: float | None
    seconds: float
    placements: dict[str, int] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    breaks: tuple[Break, ...] = ()
    lost_transfers: int = 0  # on broken links
    retries: int = 0
    given_up: int = 0  # requests that failed too often
    sizes: tuple[Sized, ...] = ()
    loans: tuple[Loan, ...] = ()
    hits: Hits | None = None  # None where the trace does not tell which prompts begin alike


def outcome_of(trace: Trace, ended: Sequence[Job]) -> Outcome:
    """The requests that ended, in that order."""
    order = np.array([job.number for job in ended], np.int64)
    arrival_s = trace.arrival_s[order]
    first_s = np.array([job.first_token_s for job in ended])
    decoding_s = np.array([max(job.decoding_s, job.first_token_s) for job in ended])
    return Outcome(
        request_id=trace.request_id[order],
        e2e_s=np.array([job.ended_s for job in ended]) - arrival_s,
        queue_s=np.array([job.started_s for job in ended]) - arrival_s,
        ttft_s=first_s - arrival_s,
        second_token_s=decoding_s - first_s,
        prompt_tokens=trace.prompt_tokens[order],
        output_tokens=trace.output_tokens[order],
        unfinished=len(trace) - len(ended),
        prompt_worker=np.array([job.prompt_worker for job in ended], np.int64),
        token_worker=np.array(
            [job.prompt_worker if job.stays else job.token_worker for job in ended], np.int64
        ),
    )


def used_of(workers: Sequence[Worker], roles: Sequence[Role], seconds: float) -> Used:
    """What workers of these roles did in so many seconds."""
    usages = [worker.usage for worker in workers]
    computed = sum(usage.prompt_s + usage.token_s for usage in usages)
    beyond = sum(usage.beyond_s for usage in usages)
    joules = [_joules(worker, seconds) for worker in workers]
    return Used(
        beyond_measured=beyond / computed if computed else 0.0,
        prompt_busy=_busy(workers, roles, seconds, Role.PROMPT),
        token_busy=_busy(workers, roles, seconds, Role.TOKEN),
        joules=None if None in joules else sum(j for j in joules if j is not None),
        seconds=seconds,
    )


def _busy(workers: Sequence[Worker], roles: Sequence[Role], seconds: float, role: Role) -> float:
    """The share of time that workers of a role, or mixed ones, computed."""
    own = [worker for worker, its in zip(workers, roles) if its in (role, Role.MIXED)]
    computed = sum(worker.usage.prompt_s + worker.usage.token_s for worker in own)
    return computed / (seconds * len(own)) if own else 0.0


def _joules(worker: Worker, seconds: float) -> float | None:
    power, usage = worker.hardware.power, worker.usage
    if power is None:
        return None
    idle_s = max(seconds - usage.prompt_s - usage.token_s, 0.0)
    return power.joules(usage.prompt_s, usage.token_s, idle_s)
