"""What a router has placed and turned away in the last seconds. Times come in as numbers.

The autoscaler asks for it: what is turned away is load that no worker can tell of.
"""

from collections import deque
from typing import Final

WINDOW_S: Final = 10.0
"""As long as the autoscaler looks back for a load that rises."""


class Lately:
    """Tokens of the last WINDOW_S seconds, in steps of one."""

    def __init__(self) -> None:
        self._by_second: deque[tuple[int, int]] = deque()  # the second, and its tokens

    def note(self, tokens: int, now_s: float) -> None:
        """So many more."""
        second = int(now_s)
        if self._by_second and self._by_second[-1][0] == second:
            tokens += self._by_second.pop()[1]
        self._by_second.append((second, tokens))
        self._forget(now_s)

    def tokens(self, now_s: float) -> int:
        """How many there were."""
        self._forget(now_s)
        return sum(tokens for _, tokens in self._by_second)

    def _forget(self, now_s: float) -> None:
        """What is older."""
        while self._by_second and self._by_second[0][0] <= now_s - WINDOW_S:
            self._by_second.popleft()


class Intake:
    """The prompt tokens of requests that found workers, and of those that were turned away."""

    def __init__(self) -> None:
        self.placed, self.refused = Lately(), Lately()

    def told(self, now_s: float) -> dict[str, int]:
        """As /queue has it."""
        return {
            "placedTokens": self.placed.tokens(now_s),
            "refusedTokens": self.refused.tokens(now_s),
        }
