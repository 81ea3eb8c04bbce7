"""Runs of the unmodified released simulator, reproduced request by request."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from splitwise_planner.phase_times import knots_of, load_phase_times
from splitwise_planner.trace import load_trace
from tests.planner.support import SHARED, needs_shared, simulated

RUNS = sorted((SHARED / "golden").glob("*.csv.gz"))

COLUMNS = {
    "response_times": "e2e_s",
    "queue_times": "queue_s",
    "ttft_times": "ttft_s",
    "tbt_times": "tbt_s",
    "nth_token_overheads": "second_token_s",
}


@needs_shared
@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.name.removesuffix(".csv.gz"))
def test_a_recorded_run_is_reproduced(run: Path) -> None:
    _, model, trace, design = run.name.removesuffix(".csv.gz").split("__")
    outcome = simulated(load_trace(SHARED / "golden" / "traces" / f"{trace}.csv.gz"), design, model)
    with gzip.open(run, "rt") as file:
        rows = list(csv.DictReader(file))
    assert outcome.request_id.tolist() == [int(float(row["request_ids"])) for row in rows]
    for theirs, ours in COLUMNS.items():
        expected = np.array([float(row[theirs]) for row in rows])
        assert np.abs(getattr(outcome, ours) - expected).max() < 1e-9, theirs


@needs_shared
def test_the_medians_are_those_that_the_released_simulator_takes() -> None:
    with (SHARED / "perf_knots.csv").open() as file:
        for row in csv.DictReader(file):
            gpu, slowdown = row["hw"].removesuffix("-pcap"), 1.3 if "pcap" in row["hw"] else 1.0
            knots = knots_of(load_phase_times(), row["model"], gpu, int(row["tp"]), slowdown)
            at = knots.tokens.tolist().index(float(row["batch_tokens"]))
            assert knots.prompt_s[at] == float(row["prompt_s"])
            assert knots.token_s[at] == float(row["token_s"])
