"""What workers tell routers of their stages in virtual time, measured step by step as on their own.

Wanted where one worker may serve both phases because that is cheaper (`policy.stages`).
"""

from collections.abc import Sequence

import numpy as np

from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.duty import Duty
from splitwise_core.policy.fleet import Numbers
from splitwise_core.policy.roles import Role
from splitwise_core.policy.stages import StageView, stage_view
from splitwise_planner.measured.worker import NOBODY, Job, Stretch, Worker


class Told:
    """The columns that routers keep of it. `duties` are the workers' own, by their numbers."""

    def __init__(self, roles: Sequence[Role], duties: Sequence[Duty]) -> None:
        count = len(duties)
        self._roles = np.array(roles)
        self._duties = duties
        self._speed, self._base_s, self._slope_s = (np.zeros(count) for _ in range(3))
        self._decoding = np.zeros(count, np.int64)
        self._prompt_share = np.zeros(count)
        self._unsettled: set[int] = set()

    def sent(self, job: Job, sign: int = 1) -> None:
        """A request decodes on a worker, or will; with -1, it does no more."""
        if job.token_worker != NOBODY:
            self._decoding[job.token_worker] += sign

    def worked(self, number: int, worker: Worker, stretch: Stretch, sequences: int) -> None:
        """A worker's stretch has ended, in which so many sequences decoded."""
        duty, seconds = self._duties[number], (stretch.ends_s - stretch.began_s) / stretch.steps
        if stretch.kind is StepKind.MIXED:
            duty.worked_mixed(sum(stretch.tokens), sequences, seconds, stretch.ends_s)
        else:
            for step in range(1, stretch.steps + 1):
                now_s = stretch.began_s + step * seconds
                duty.worked(stretch.kind, sequences, seconds, now_s)
        self._base_s[number], self._slope_s[number] = duty.steps.base_s, duty.steps.slope_s
        self._speed[number] = worker.speed.tokens_per_s
        self._unsettled.add(number)

    def view(self, ready: Numbers, now_s: float) -> StageView:
        """What routers have heard by now; `ready`: which workers count."""
        for number in sorted(self._unsettled):
            share = self._prompt_share[number] = self._duties[number].prompt_share(now_s)
            if share == 0:
                self._unsettled.discard(number)
        return stage_view(
            self._roles,
            ready,
            self._speed,
            self._base_s,
            self._slope_s,
            self._decoding,
            self._prompt_share,
        )
