"""How many sequences may decode together on a worker, so that each gets its next token in time.

Memory alone lets a worker take in more sequences than it can serve at the pace that users were
promised: under overload all of them are then late together, and none of the work is good. What a
step takes grows with the sequences in it; how fast is learnt from the steps themselves.
"""

from typing import Final

HEADROOM: Final = 0.8
"""Of the time between tokens, what a step should take: about half of the steps take longer than
their mean, and no answer's tokens may be late on average."""

LEAST_KEPT: Final = 0.5
"""Of the sequences that decode, how many may stay in any case: where steps are slow for another
reason, fewer sequences would not help, and cost throughput."""

_MEMORY: Final = 0.98
"""What one step leaves of those before it: the last fifty count, which is a second or two."""

_DOUBT: Final = 1.0
"""In squared sequences: steps whose numbers of sequences vary less say little of what one more
costs, and it is taken to cost as much as those that are there do."""

_SHORTEST_S: Final = 1e-6
"""A step that a clock did not see took some time all the same."""

_FLATTEST: Final = 0.01
"""Of the steepest slope: what is added to a step is never for nothing."""


class DecodeLimit:
    """Learns from a worker's token steps; `sequences` is the answer."""

    def __init__(self, most: int, tbt_s: float | None) -> None:
        """`most` at any time; `tbt_s`: longest time between tokens, None for any."""
        self._most = most
        self._step_s = None if tbt_s is None else HEADROOM * tbt_s
        self._weight = self._n = self._s = self._nn = self._ns = 0.0

    def stepped(self, sequences: int, seconds: float) -> None:
        """A token step of so many sequences ended so long after the one before it.

        What ran between the two is counted in: who waits for a token does not care why.
        """
        self._weight = _MEMORY * self._weight + 1
        self._n = _MEMORY * self._n + sequences
        self._s = _MEMORY * self._s + max(seconds, _SHORTEST_S)
        self._nn = _MEMORY * self._nn + sequences * sequences
        self._ns = _MEMORY * self._ns + sequences * seconds

    @property
    def sequences(self) -> int:
        """The most that may decode together, 1 at least; before the first step, any number."""
        if self._step_s is None or self._weight == 0:
            return self._most
        n, s = self._n / self._weight, self._s / self._weight
        more = (self._step_s - s) / self._one_more_s(n, s)
        return round(max(1.0, LEAST_KEPT * n, min(float(self._most), n + more)))

    def _one_more_s(self, n: float, s: float) -> float:
        """What a step takes longer with another sequence, where `n` take `s` on average.

        The slope of the line through the steps, drawn towards the steepest that there may be: the
        one of steps that have no cost of their own.
        """
        steepest_s = s / n
        spread = max(0.0, self._nn / self._weight - n * n)
        together = self._ns / self._weight - n * s
        slope_s = (together + _DOUBT * steepest_s) / (spread + _DOUBT)
        return min(steepest_s, max(_FLATTEST * steepest_s, slope_s))
