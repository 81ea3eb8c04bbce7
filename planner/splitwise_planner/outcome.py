"""What a simulation says of each request: times in seconds, in the order in which they ended."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitwise_core.errors import writing

COLUMNS: Final = (
    "request_id",
    "response_time",
    "queue_time",
    "ttft",
    "tbt",
    "nth_token_overhead",
    "prompt_size",
    "token_size",
)

PLACED: Final = ("prompt_worker", "token_worker")
"""Columns beside them, where the rules have placements like a router's."""

PERCENTILES: Final = (50, 90, 99)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Columns of one length; `unfinished` requests had not ended when nothing went on any more.

    Workers are counted from 0 on, those of prompts first. One that serves both phases of a request
    is told twice.
    """

    request_id: NDArray[np.int64]
    e2e_s: NDArray[np.float64]
    queue_s: NDArray[np.float64]
    ttft_s: NDArray[np.float64]
    second_token_s: NDArray[np.float64]  # from the first token until the second is computed
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    unfinished: int
    prompt_worker: NDArray[np.int64] | None = None
    token_worker: NDArray[np.int64] | None = None

    @property
    def tbt_s(self) -> NDArray[np.float64]:
        """Mean time between tokens, as the released simulator counts it: over all tokens, the
        first one among them."""
        return np.asarray((self.e2e_s - self.ttft_s) / self.output_tokens)


def percentiles(outcome: Outcome) -> dict[str, dict[str, float]]:
    """P50, P90 and P99 of the three latencies in seconds; empty when no request ended."""
    if len(outcome.request_id) == 0:
        return {}
    columns = {"ttft_s": outcome.ttft_s, "tbt_s": outcome.tbt_s, "e2e_s": outcome.e2e_s}
    return {
        name: {f"p{p}": float(np.percentile(column, p)) for p in PERCENTILES}
        for name, column in columns.items()
    }


def write_requests(outcome: Outcome, path: Path) -> None:
    """Writes a CSV with a row for each request that ended. Raises UserError for a bad path."""
    columns = [
        outcome.request_id,
        outcome.e2e_s,
        outcome.queue_s,
        outcome.ttft_s,
        outcome.tbt_s,
        outcome.second_token_s,
        outcome.prompt_tokens,
        outcome.output_tokens,
    ]
    names = list(COLUMNS)
    if outcome.prompt_worker is not None and outcome.token_worker is not None:
        columns += [outcome.prompt_worker, outcome.token_worker]
        names += PLACED
    with writing(str(path)), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(zip(*(column.tolist() for column in columns)))
