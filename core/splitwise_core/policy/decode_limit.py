"""How many sequences may decode together on a worker, so that each gets its next token in time.

Memory alone lets a worker take in more sequences than it can serve at the pace that users were
promised: under overload all of them are then late together, and none of the work is good. What a
step takes grows with the sequences in it; how fast is learnt from the steps themselves.
"""

from typing import Final

from splitwise_core.policy.step_times import StepTimes

HEADROOM: Final = 0.8
"""Of the time between tokens, what a step should take: about half of the steps take longer than
their mean, and no answer's tokens may be late on average."""

LEAST_KEPT: Final = 0.5
"""Of the sequences that decode, how many may stay in any case: where steps are slow for another
reason, fewer sequences would not help, and cost throughput."""

_STEPS: Final = 50
"""Steps that count, which is a second or two."""

_DOUBT: Final = 1.0
"""In squared sequences: steps whose numbers of sequences vary less say little of what one more
costs, and it is taken to cost as much as those that are there do."""

_FLATTEST: Final = 0.01
"""Of the steepest slope: what is added to a step is never for nothing."""


class DecodeLimit:
    """Learns from a worker's token steps; `sequences` is the answer."""

    def __init__(self, most: int, tbt_s: float | None) -> None:
        """`most` at any time; `tbt_s`: longest time between tokens, None for any."""
        self._most = most
        self._aim_s = None if tbt_s is None else HEADROOM * tbt_s
        self._times = StepTimes(_STEPS)

    def stepped(self, sequences: int, seconds: float) -> None:
        """A token step of so many sequences ended so long after the one before it.

        What ran between the two is counted in: who waits for a token does not care why.
        """
        self._times.note(sequences, seconds)

    @property
    def token_s(self) -> float:
        """What a sequence waits for a token, of late; 0 before the first step."""
        return self._times.seconds

    @property
    def sequences(self) -> int:
        """The most that may decode together, 1 at least; before the first step, any number."""
        if self._aim_s is None or not (one_more_s := self._one_more_s()):
            return self._most
        now = self._times.sequences
        more = (self._aim_s - self.token_s) / one_more_s
        return round(max(1.0, LEAST_KEPT * now, min(float(self._most), now + more)))

    def _one_more_s(self) -> float:
        """What a step takes longer with another sequence; 0 before one has taken any time.

        The slope of the line through the steps, drawn towards the steepest that there may be: the
        one of steps that have no cost of their own.
        """
        times = self._times
        if not times.is_known:
            return 0.0
        steepest_s = times.seconds / times.sequences
        slope_s = (times.together + _DOUBT * steepest_s) / (times.spread + _DOUBT)
        return min(steepest_s, max(_FLATTEST * steepest_s, slope_s))
