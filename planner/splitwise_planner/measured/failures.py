"""Machines that fail and come back, in virtual time.

A machine dies at once with all that is on it. Routers notice when its streams have been silent for
`SILENCE_S`, or when it is back before that; until then they send it work. What was lost is asked
for again with the tokens that its client has, as often as routers do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Final

from splitwise_core.errors import UserError

SILENCE_S: Final = 10.0
"""Until a router takes a silent worker for lost, as its sessions do."""

RETRIES: Final = 2
"""New attempts of a request, the spec's own default."""

LEAST_UP_S: Final = 1.0

LEAST: Final = 1e-3
"""Hours between failures, and minutes that one lasts."""


class Change(Enum):
    """What happens to a machine, or a worker."""

    DIES = auto()
    IS_MISSED = auto()
    IS_BACK = auto()
    LOOK = auto()  # at all of them
    SERVES = auto()


@dataclass(frozen=True, slots=True)
class Failure:
    """A machine is gone from `at_s` on, and works again after `down_s`."""

    at_s: float
    machine: int
    down_s: float

    @property
    def back_s(self) -> float:
        """When it works again."""
        return self.at_s + self.down_s

    @property
    def changes(self) -> list[tuple[float, Change]]:
        """What it means, in order of time."""
        missed_s = min(self.at_s + SILENCE_S, self.back_s)
        return [
            (self.at_s, Change.DIES),
            (missed_s, Change.IS_MISSED),
            (self.back_s, Change.IS_BACK),
        ]


@dataclass(frozen=True, slots=True)
class Faults:
    """How often machines or links fail: each on average every `mtbf_s`, for `repair_s`; same seed,
    same times."""

    mtbf_s: float
    repair_s: float
    seed: int = 0

    def drawn(self, machines: int, from_s: float, until_s: float) -> Sequence[Failure]:
        """The failures of so many machines that begin in a time, in order.

        Each machine has draws of its own, so that one more changes nothing of the others.
        """
        found = [
            Failure(at_s, machine, self.repair_s)
            for machine in range(machines)
            for at_s in self.times(f"{machine}", from_s, until_s)
        ]
        return sorted(found, key=lambda failure: (failure.at_s, failure.machine))

    def times(self, name: str, from_s: float, until_s: float) -> Iterator[float]:
        """When what goes by this name fails in a time; each name has draws of its own."""
        draw = Random(f"{self.seed}/{name}")
        at_s = from_s + draw.expovariate(1 / self.mtbf_s)
        while at_s < until_s:
            yield at_s
            at_s += self.repair_s + max(LEAST_UP_S, draw.expovariate(1 / self.mtbf_s))


def faults_of(
    mtbf_hours: float | None, repair_minutes: float, seed: int, options: str = "--"
) -> Faults | None:
    """As they are asked for by options that begin with `options`; None where nothing is to fail.
    Raises UserError (invalid-plan)."""
    if mtbf_hours is None:
        return None
    for name, value, most in (("mtbf", mtbf_hours, 1e6), ("repair", repair_minutes, 1e5)):
        if not LEAST <= value <= most:
            raise UserError(
                "invalid-plan",
                where=options + name,
                wrong=f"is {value:g}",
                fix=f"give {LEAST:g} to {most:g}",
            )
    return Faults(3600 * mtbf_hours, 60 * repair_minutes, seed)


def told_of(faults: Faults) -> str:
    """How often, in words."""
    hours, minutes = faults.mtbf_s / 3600, faults.repair_s / 60
    return f"each once in {hours:g} h on average, for {minutes:g} min"
