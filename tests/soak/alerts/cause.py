"""What makes alerts fire, for as long as it lasts, and what came of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from tests.support.watched import Watch

POLL_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Cause:
    """`lasts()` is the cause: it begins when that is entered, and is taken away when it is left."""

    words: str
    alerts: tuple[str, ...]
    lasts: Callable[[], AbstractContextManager[object]]
    within_s: float = 90.0
    """Seconds until all of them fire, and again until none does."""


@dataclass(slots=True)
class Seen:
    """Of one cause: seconds until each of its alerts fired, and until it was over again."""

    cause: Cause
    fired_s: dict[str, float] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)
    others: set[str] = field(default_factory=set)
    """What else has fired meanwhile."""

    @property
    def is_right(self) -> bool:
        """Whether all of them have fired and have ended."""
        return self.fired_s.keys() == self.ended_s.keys() == set(self.cause.alerts)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Alert, cause, and both times, for people."""
        for alert in self.cause.alerts:
            times = (self.fired_s.get(alert), self.ended_s.get(alert))
            told = ("never" if one is None else f"{one:.1f} s" for one in times)
            yield alert, self.cause.words, *told


def caused(watch: Watch, cause: Cause) -> Seen:
    """Begins a cause, waits until its alerts fire, takes it away, waits until no alert fires."""
    seen, wanted = Seen(cause), set(cause.alerts)

    def do_all_fire(firing: set[str], at_s: float) -> bool:
        for alert in firing & wanted:
            seen.fired_s.setdefault(alert, at_s)
        seen.others |= firing - wanted
        return wanted <= firing

    def have_all_ended(firing: set[str], at_s: float) -> bool:
        for alert in firing & seen.ended_s.keys():
            del seen.ended_s[alert]  # it has begun anew
        for alert in seen.fired_s.keys() - firing:
            seen.ended_s.setdefault(alert, at_s)
        seen.others |= firing - wanted
        return not firing

    began_s = time.monotonic()
    with cause.lasts():
        _follow(watch, do_all_fire, began_s, cause.within_s)
        over_s = time.monotonic()
    _follow(watch, have_all_ended, over_s, cause.within_s)
    return seen


def _follow(
    watch: Watch, is_enough: Callable[[set[str], float], bool], since_s: float, within_s: float
) -> None:
    """Looks at the alerts that fire until it is enough, or has taken too long."""
    while True:
        at_s = time.monotonic() - since_s
        if is_enough(watch.alerts(), at_s) or at_s > within_s:
            return
        time.sleep(POLL_S)
