"""The end of a worker: nothing new, and each sequence ends here, moves or returns, in time."""

from typing import Final

from splitwise_core.policy.draining import Fate, fate, in_time
from splitwise_worker.endings import Endings
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.outbox import Outbox, move_wanted
from splitwise_worker.scheduler import Scheduler

ASK_AGAIN_S: Final = 1.0
"""A router that has found no peer for a sequence is asked anew after so long."""


class Draining:
    """Does nothing until `begin`; from then on `look` is for every turn of the engine."""

    def __init__(
        self, scheduler: Scheduler, endings: Endings, outbox: Outbox, metrics: EngineMetrics
    ) -> None:
        self._scheduler = scheduler
        self._endings = endings
        self._outbox = outbox
        self._metrics = metrics
        self._deadline_s: float | None = None

    @property
    def begun(self) -> bool:
        """Whether the worker takes no new work. For any thread."""
        return self._deadline_s is not None

    def begin(self, deadline_s: float) -> None:
        """Drains until `deadline_s`, or the deadline from before where that is sooner."""
        before = self._deadline_s
        self._deadline_s = deadline_s if before is None else min(deadline_s, before)
        self._metrics.draining()

    def look(self, now_s: float) -> None:
        """Asks for peers, and gives back what cannot end in time."""
        if self._deadline_s is None:
            return
        left_s = self._deadline_s - now_s
        if left_s <= 0:
            for sequence in self._scheduler:
                self._endings.give_back(sequence)
            return
        waiting = self._scheduler.waiting()
        tokens = [sequence.tokens_to_compute for sequence in waiting]
        kept = in_time(tokens, self._scheduler.prompt_speed.tokens_per_s, left_s)
        for sequence in waiting[kept:]:
            self._endings.give_back(sequence)
        self._want_peers(now_s, left_s)

    def _want_peers(self, now_s: float, left_s: float) -> None:
        """The longest first: the others may end meanwhile."""
        longest_first = sorted(self._scheduler.running(), key=lambda s: -s.most_left)
        for sequence in longest_first:
            asked_s = sequence.move_wanted_s
            if sequence.moving_tokens or (asked_s is not None and now_s - asked_s < ASK_AGAIN_S):
                continue
            if fate(sequence.most_left, self._scheduler.token_s, left_s) is Fate.MOVES:
                sequence.move_wanted_s = now_s
                self._outbox.put(sequence.key, move_wanted(sequence.key))
