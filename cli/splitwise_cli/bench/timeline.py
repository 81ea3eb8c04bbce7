"""What came of a load slice by slice, so that it can be drawn, and its steadiness be told.

At most MOST_SLICES are kept, of equal length: when a load goes on, two and two become one.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from splitwise_cli.bench.sketch import Sketch

MOST_SLICES: Final = 20
FIRST_SLICE_S: Final = 0.25


@dataclass(slots=True)
class Slice:
    """The requests that were due within a slice, and what became of them."""

    sent: int = 0
    ok: int = 0
    good: int = 0
    output_tokens: int = 0
    ttft: Sketch = field(default_factory=Sketch)
    tbt: Sketch = field(default_factory=Sketch)
    e2e: Sketch = field(default_factory=Sketch)

    def take_in(self, other: "Slice") -> None:
        """Adds another slice to this one."""
        self.sent += other.sent
        self.ok += other.ok
        self.good += other.good
        self.output_tokens += other.output_tokens
        for mine, theirs in ((self.ttft, other.ttft), (self.tbt, other.tbt), (self.e2e, other.e2e)):
            mine.take_in(theirs)

    def body(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {
            "sent": self.sent,
            "ok": self.ok,
            "good": self.good,
            "output_tokens": self.output_tokens,
            "ttft_s": self.ttft.spread(),
            "tbt_s": self.tbt.spread(),
            "e2e_s": self.e2e.spread(),
        }


class Timeline:
    """The slices so far."""

    def __init__(self) -> None:
        self.slice_s = FIRST_SLICE_S
        self.slices: list[Slice] = []

    def at(self, due_s: float) -> Slice:
        """The slice of a request that was due then, in seconds from the beginning."""
        while due_s >= MOST_SLICES * self.slice_s:
            self._widen()
        index = max(0, int(due_s / self.slice_s))
        while len(self.slices) <= index:
            self.slices.append(Slice())
        return self.slices[index]

    def _widen(self) -> None:
        self.slice_s *= 2
        for first, second in zip(self.slices[::2], self.slices[1::2]):
            first.take_in(second)
        del self.slices[1::2]

    def body(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {"slice_s": self.slice_s, "slices": [one.body() for one in self.slices]}
