"""Which of its links a prompt worker measures next.

Pure: times are told, in seconds of one clock. Kept, not built: what is due is found among the few
links that were told of lately, not among all that there are.
"""

from collections.abc import Mapping, Sequence
from typing import Final

PER_PERIOD: Final = 4
"""Links that one prompt worker measures in a period: the load grows with workers, not with pairs.
In a larger fleet the links take their turns, and real transfers measure those that are used."""


class LinkTurns:
    """The links of one prompt worker to token workers, each of which goes by its number."""

    def __init__(self, own: int, first: int) -> None:
        """`own`: its own number. `first`: where among the token workers its turns begin."""
        self._own = own
        self._turn = first
        self._settled: dict[int, float] = {}  # when each was noted; those of the last period
        self._unsettled: dict[int, float] = {}  # the first was noted the longest ago

    def note(self, token: int, at_s: float, is_settled: bool) -> None:
        """A link was told of or asked for. One that fails or has no rate yet is not settled."""
        self.forget(token)
        (self._settled if is_settled else self._unsettled)[token] = at_s

    def forget(self, token: int) -> None:
        """The token worker is gone."""
        self._settled.pop(token, None)
        self._unsettled.pop(token, None)

    def is_unsettled(self, token: int) -> bool:
        """Whether a link fails, or has no rate yet."""
        return token in self._unsettled

    def due(
        self, tokens: Mapping[int, object], now_s: float, period_s: float, retry_s: float
    ) -> list[int]:
        """Those of `tokens`, in their order, to which the links should be measured now.

        A link is due once in `period_s`, and PER_PERIOD of them at most; beyond these the one that
        was noted unsettled the longest ago, after `retry_s`.
        """
        self._settled = {t: s for t, s in self._settled.items() if now_s - s < period_s}
        oldest = next((token for token in self._unsettled if token in tokens), None)
        due = self._next(list(tokens), PER_PERIOD - len(self._settled))
        if oldest is not None and now_s - self._unsettled[oldest] >= retry_s:
            due.append(oldest)
        return due

    def _next(self, tokens: Sequence[int], most: int) -> list[int]:
        """So many of those whose turn it is."""
        chosen: list[int] = []
        for _ in range(len(tokens)):
            if len(chosen) >= most:
                break
            token = tokens[self._turn % len(tokens)]
            self._turn += 1
            if token != self._own and token not in self._settled and token not in self._unsettled:
                chosen.append(token)
        return chosen
