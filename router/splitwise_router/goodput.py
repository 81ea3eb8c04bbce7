"""Requests by whether they kept to the objectives of the cluster's spec."""

from dataclasses import dataclass

from splitwise_core.metrics.router import SLO_PART, SLO_REQUESTS, SLO_TARGET
from splitwise_core.telemetry import Telemetry

_TTFT, _TBT, _ALL = "ttft", "tbt", "all"


@dataclass(frozen=True, slots=True)
class Objectives:
    """Seconds to the first token, and between an answer's tokens on the mean, that are in time.

    `part` of the requests are to be.
    """

    ttft_s: float
    tbt_s: float
    part: float


class Goodput:
    """Counts for one router; nothing where there are no objectives."""

    def __init__(self, telemetry: Telemetry, objectives: Objectives | None) -> None:
        self._asked = objectives
        if objectives is None:
            return
        self._counts = {
            (objective, met): telemetry.counter(
                SLO_REQUESTS, objective=objective, verdict="met" if met else "missed"
            )
            for objective in (_TTFT, _TBT, _ALL)
            for met in (True, False)
        }
        telemetry.gauge(SLO_TARGET, objective=_TTFT).set(objectives.ttft_s)
        telemetry.gauge(SLO_TARGET, objective=_TBT).set(objectives.tbt_s)
        telemetry.gauge(SLO_PART).set(objectives.part)

    def answered(self, ttft_s: float, tbt_s: float) -> None:
        """Counts a choice that ended well; `tbt_s` is its mean, 0 for one token."""
        if self._asked is not None:
            self._count(ttft_s <= self._asked.ttft_s, tbt_s <= self._asked.tbt_s)

    def failed(self) -> None:
        """Counts a request that came to nothing, which was no fault of its client's."""
        if self._asked is not None:
            self._count(False, False)

    def _count(self, ttft: bool, tbt: bool) -> None:
        self._counts[_TTFT, ttft].inc()
        self._counts[_TBT, tbt].inc()
        self._counts[_ALL, ttft and tbt].inc()
