"""Objectives of a whole run, as `--slo` takes them, and whether a run has kept them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitwise_core.errors import UserError

STAGES: Final = ("queue", "prefill", "transfer", "first_decode")
"""Of requests, as `usage` of an answer tells them."""

TIMES: Final = ("ttft", "tbt", "e2e", *STAGES)
SHARES: Final = ("goodput", "answered")
"""Of all requests that were sent; these are at least what is asked, times at most."""

_TIME: Final = re.compile(rf"({'|'.join(TIMES)})_(mean|max|p(\d{{1,2}}(?:\.\d+)?))")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m)?")
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)%")
_UNIT_S: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, None: 1.0}

FIX: Final = (
    "write --slo ttft_p99=1s, tbt_p90=50ms, e2e_mean=20s (at most), goodput=99% or answered=99.9% "
    f"(at least); times are {', '.join(TIMES)}, with _mean, _max or _p and a percentage"
)


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective: `limit` in seconds for a time, from 0 to 1 for a share."""

    name: str
    limit: float

    @property
    def is_share(self) -> bool:
        """Whether it is a share, which may not fall below its limit."""
        return self.name in SHARES

    @property
    def time(self) -> str:
        """Which time it is about."""
        return self.name.rpartition("_")[0]

    @property
    def statistic(self) -> str:
        """`mean`, `max`, or `p` with the percentage."""
        return self.name.rpartition("_")[2]

    def verdict(self, measured: float | None) -> dict[str, Any]:
        """As it stands in the report. What could not be measured was not kept."""
        held = measured is not None and (
            measured >= self.limit if self.is_share else measured <= self.limit
        )
        return {"objective": self.name, "limit": self.limit, "measured": measured, "held": held}


def objective(text: str) -> Objective:
    """Reads `NAME=LIMIT`. Raises UserError."""
    name, _, limit = text.replace(" ", "").partition("=")
    if name in SHARES and (share := _SHARE.fullmatch(limit)) and float(share[1]) <= 100:
        return Objective(name, float(share[1]) / 100)
    if _TIME.fullmatch(name) and (duration := _DURATION.fullmatch(limit)):
        return Objective(name, float(duration[1]) * _UNIT_S[duration[2]])
    wrong = f"{text!r} is no objective"
    raise UserError("invalid-load", where="--slo", wrong=wrong, fix=FIX)


def verdicts(
    objectives: Sequence[Objective], measure: Callable[[Objective], float | None]
) -> list[dict[str, Any]]:
    """Each objective with what was measured, and whether it was kept."""
    return [one.verdict(measure(one)) for one in objectives]
