"""A report of `--json`, read back: what of it comparisons and plots need."""

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from pathlib import Path
from typing import Any, Final

from splitwise_core.errors import UserError

TIMES: Final = {"ttft": "TTFT", "tbt": "TBT", "e2e": "E2E"}
MOST_BYTES: Final = 1 << 26

Spread = Mapping[float, int]
"""How often each duration in seconds occurred; durations are 1 % apart."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What became of the requests that were due within a slice of a run."""

    sent: int
    ok: int
    good: int
    output_tokens: int
    times: Mapping[str, Spread]


@dataclass(frozen=True, slots=True)
class Run:
    """One run: the report as it was written, and its slices of `slice_s` each."""

    name: str
    report: Mapping[str, Any]
    slice_s: float
    slices: tuple[Slice, ...]


def run_of(name: str, report: Any) -> Run:
    """A report as a run. Raises ValueError for what is none."""
    try:
        timeline = report["timeline"]
        slices = tuple(_slice(one) for one in timeline["slices"])
        return Run(name, report, float(timeline["slice_s"]), slices)
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no report of `splitwise bench --json`: {error!r}") from error


def read_run(file: Path) -> Run:
    """Reads a report. Raises UserError."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        return run_of(file.stem, json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        fix = "name a file that `splitwise bench --json FILE` has written"
        raise UserError("unreadable-file", where=str(file), wrong=str(error), fix=fix) from error


def _slice(body: Mapping[str, Any]) -> Slice:
    times = {name: _spread(body[f"{name}_s"]) for name in TIMES}
    return Slice(
        int(body["sent"]), int(body["ok"]), int(body["good"]), int(body["output_tokens"]), times
    )


def _spread(body: Mapping[str, Any]) -> Spread:
    pairs = list(zip(body["seconds"], body["counts"], strict=True))
    if any(not (seconds >= 0 and int(count) > 0) for seconds, count in pairs):
        raise ValueError("its timeline has impossible counts")
    return {float(seconds): int(count) for seconds, count in pairs}


def merged(spreads: Iterable[Spread]) -> Spread:
    """All of them as one."""
    total: Counter[float] = Counter()
    for spread in spreads:
        total.update(spread)
    return total


def percentile(spread: Spread, percent: float) -> float | None:
    """The least duration that `percent` % do not exceed; None of nothing."""
    seconds = sorted(spread)
    sums = list(accumulate(spread[one] for one in seconds))
    if not sums:
        return None
    return seconds[bisect_left(sums, max(1, ceil(sums[-1] * percent / 100)))]
