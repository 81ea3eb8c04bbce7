"""What a worker does beside the phase of its own pool, and how fast it is: learnt step by step.

Called by the worker's engine. No clock: times are arguments, of any clock that goes forward.
"""

from math import exp
from typing import Final

from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.roles import Role
from splitwise_core.policy.step_times import StepTimes

RETURN_S: Final = 2.0
"""A worker that is borrowed has returned when it has had no work of the other phase for so long:
what comes in pieces is one loan, and not one for each piece."""

REPURPOSE_S: Final = 300.0
"""So long is a worker borrowed before it should be of the other pool, where nobody says else."""

SHARE_S: Final = 10.0
"""Over which time the share of prompts is taken."""

STEPS: Final = 200
"""Decoding steps of which the line through their times is: earlier ones hardly count."""

_PHASES: Final = {
    Role.PROMPT: (StepKind.PROMPT,),
    Role.TOKEN: (StepKind.TOKEN,),
    Role.MIXED: (StepKind.PROMPT, StepKind.TOKEN),
}


class Recent:
    """Seconds of work, those longer ago than about `over_s` hardly counted."""

    def __init__(self, over_s: float) -> None:
        self._over_s = over_s
        self._sum_s = 0.0
        self._at_s = 0.0

    def add(self, seconds: float, now_s: float) -> None:
        """A piece of work has ended now."""
        self._sum_s = self.seconds(now_s) + seconds
        self._at_s = now_s

    def seconds(self, now_s: float) -> float:
        """What counts now."""
        return self._sum_s * exp(-max(0.0, now_s - self._at_s) / self._over_s)

    def share(self, now_s: float) -> float:
        """Of the time, from 0 to 1."""
        return min(1.0, self.seconds(now_s) / self._over_s)


class Duty:
    """One worker's part. `loans` are how often it was borrowed; it begins as its pool says."""

    def __init__(self, role: Role, repurpose_s: float = REPURPOSE_S) -> None:
        self._role = role
        self._repurpose_s = repurpose_s
        self._since_s: float | None = None  # borrowed
        self._last_s = 0.0  # had work of the other phase
        self._prompts = Recent(SHARE_S)
        self._own, self._foreign = Recent(repurpose_s), Recent(repurpose_s)
        self.loans = 0
        self.steps = StepTimes(STEPS)

    def look(self, prompts: int, decoding: int, now_s: float) -> None:
        """Takes how many prompts wait here, and how many sequences decode or arrive."""
        if self._role is Role.MIXED:
            return
        if prompts if self._role is Role.TOKEN else decoding:
            self._last_s = now_s
            if self._since_s is None:
                self._since_s = now_s
                self.loans += 1
        elif now_s - self._last_s >= RETURN_S:
            self._since_s = None

    def worked(self, kind: StepKind, sequences: int, seconds: float, now_s: float) -> None:
        """Takes what a step of one kind has computed, which has ended now."""
        self._spent(kind, seconds, now_s)
        if kind is StepKind.TOKEN:
            self.steps.note(sequences, seconds)

    def worked_mixed(
        self, prompt_tokens: int, sequences: int, seconds: float, now_s: float
    ) -> float:
        """Takes a step of prompts and of `sequences` that decode; the seconds it decoded for.

        Those that the sequences would have taken alone, or by tokens while no such step was seen.
        """
        alone_s = self.steps.of(sequences) or seconds * sequences / (prompt_tokens + sequences)
        token_s = min(seconds, alone_s)
        self._spent(StepKind.PROMPT, seconds - token_s, now_s)
        self._spent(StepKind.TOKEN, token_s, now_s)
        return token_s

    def _spent(self, kind: StepKind, seconds: float, now_s: float) -> None:
        is_own = kind in _PHASES[self._role]
        (self._own if is_own else self._foreign).add(seconds, now_s)
        if kind is StepKind.PROMPT:
            self._prompts.add(seconds, now_s)

    @property
    def is_borrowed(self) -> bool:
        """Whether it serves the other phase too."""
        return self._since_s is not None

    def borrowed_s(self, now_s: float) -> float:
        """For how long it has; 0 where it does not."""
        return 0.0 if self._since_s is None else now_s - self._since_s

    @property
    def returns_s(self) -> float:
        """When one that is borrowed has returned, if no more work of the other phase comes."""
        return self._last_s + RETURN_S

    def should_change(self, now_s: float) -> bool:
        """Whether it would better be of the other pool: it has long worked more for that one."""
        mostly = self._foreign.seconds(now_s) > self._own.seconds(now_s)
        return mostly and self.borrowed_s(now_s) >= self._repurpose_s

    def prompt_share(self, now_s: float) -> float:
        """Of the last seconds, what prompts took, in hundredths; from 0 to 1."""
        return round(self._prompts.share(now_s), 2)

    def is_settled(self, now_s: float) -> bool:
        """Whether all of this stays as it is until there is work again."""
        return not self.is_borrowed and self.prompt_share(now_s) == 0
