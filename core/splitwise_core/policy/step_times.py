"""What decoding steps take, learnt from the steps themselves: a line through the last of them."""

from typing import Final

ALIKE: Final = 0.05
"""Steps whose sizes spread by less than this part of their mean do not tell what size costs."""


class StepTimes:
    """Averages over steps, of which those before the last `steps` hardly count."""

    def __init__(self, steps: float) -> None:
        self._kept = 1 - 1 / steps
        self._weight = self._n = self._s = self._nn = self._ns = 0.0

    def note(self, sequences: int, seconds: float) -> None:
        """A step of so many sequences took so long."""
        self._weight = self._kept * self._weight + 1
        self._n = self._kept * self._n + sequences
        self._s = self._kept * self._s + seconds
        self._nn = self._kept * self._nn + sequences * sequences
        self._ns = self._kept * self._ns + sequences * seconds

    @property
    def is_known(self) -> bool:
        """Whether there was a step."""
        return self._weight > 0

    @property
    def sequences(self) -> float:
        """Of a step, on average; 0 while nothing was measured."""
        return self._n / self._weight if self.is_known else 0.0

    @property
    def seconds(self) -> float:
        """Of a step, on average; 0 while nothing was measured."""
        return self._s / self._weight if self.is_known else 0.0

    @property
    def spread(self) -> float:
        """Variance of the number of sequences."""
        return max(0.0, self._nn / self._weight - self.sequences**2) if self.is_known else 0.0

    @property
    def together(self) -> float:
        """Covariance of the number of sequences and the seconds."""
        if not self.is_known:
            return 0.0
        return self._ns / self._weight - self.sequences * self.seconds

    @property
    def slope_s(self) -> float:
        """What one more sequence adds; 0 while steps were too much alike to tell."""
        if self.spread <= (ALIKE * self.sequences) ** 2:
            return 0.0
        return max(0.0, self.together / self.spread)

    @property
    def base_s(self) -> float:
        """What a step takes beside that; 0 while nothing was measured."""
        return max(0.0, self.seconds - self.slope_s * self.sequences)

    def of(self, sequences: int) -> float:
        """Seconds that a step of so many is expected to take; 0 while nothing was measured."""
        return self.base_s + self.slope_s * sequences
