"""Builders for traces and clusters, and what the released simulator said of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from hypothesis.strategies import composite, floats, integers, lists, sampled_from, tuples

from splitwise_planner.catalog import SHIPPED, load_catalog
from splitwise_planner.compat import engine
from splitwise_planner.design import parse_design
from splitwise_planner.measured.rules import Rules, rules_for
from splitwise_planner.outcome import Outcome
from splitwise_planner.phase_times import PUBLISHED, load_phase_times
from splitwise_planner.request import Budgets, Request
from splitwise_planner.trace import Trace

SHARED = Path(__file__).parents[2].parent / "shared" / "data"

needs_shared = pytest.mark.skipif(
    not SHARED.exists(), reason=f"{SHARED} has the recorded runs, and is not here"
)


SIZES: Final = [(300, 20), (1500, 9), (900, 60), (4000, 13), (700, 200), (100, 40)]


def request_in(folder: Path) -> Request:
    """Six requests a second of a few sizes, whose trace is written there."""
    trace = folder / "trace.csv"
    rows = "".join(f"{i},{p},{o}\n" for i, (p, o) in enumerate(SIZES))
    trace.write_text("arrival_timestamp,prompt_size,token_size\n" + rows)
    return Request(
        model="bloom-176b",
        trace=trace,
        designs=["HH", "BH"],
        rate=6.0,
        objective="cost",
        budgets=Budgets(),
        seeds=2,
        duration_s=60.0,
        catalog=SHIPPED,
        phase_times=PUBLISHED,
    )


def quiet(*_: object) -> None:
    """Takes progress, and tells nobody."""


def trace_of(*requests: tuple[float, int, int]) -> Trace:
    """A trace of (arrival in seconds, prompt tokens, output tokens)."""
    arrivals, prompts, outputs = zip(*requests)
    return Trace(
        np.arange(len(requests)),
        np.array(arrivals, np.float64),
        np.array(prompts, np.int64),
        np.array(outputs, np.int64),
    )


def simulated(trace: Trace, design: str, model: str = "bloom-176b") -> Outcome:
    """What becomes of a trace under the released simulator's rules."""
    catalog = load_catalog()
    parsed = parse_design(design, catalog)
    rules = engine.rules_for(load_phase_times(), model, catalog.model(model), parsed)
    return engine.simulate(trace, parsed, rules)


def by_request(outcome: Outcome, column: str) -> Sequence[float]:
    """A column of an outcome by request id."""
    values: Sequence[float] = getattr(outcome, column)[np.argsort(outcome.request_id)].tolist()
    return values


def measured_rules(design: str, model: str = "bloom-176b") -> Rules:
    """The rules of measured mode for a design, on the published times."""
    catalog = load_catalog()
    parsed = parse_design(design, catalog)
    return rules_for(load_phase_times(), model, catalog.model(model), parsed)


def alike(trace: Trace, *prefix_ids: Sequence[int]) -> Trace:
    """The trace, with the names of each prompt's beginnings of 512 tokens."""
    return replace(trace, prefix_ids=tuple(map(tuple, prefix_ids)))


@composite
def traces(draw: object) -> Trace:
    """Bursts of small, large and equal requests, some at the same moment."""
    sizes = sampled_from([1, 100, 512, 1500, 4000, 9000])
    gaps = sampled_from([0.0, 0.0, 0.01, 0.25]) | floats(0, 2)
    row = tuples(gaps, sizes, sampled_from([1, 2, 8, 60]) | integers(1, 300))
    rows = draw(lists(row, min_size=1, max_size=60))  # type: ignore[operator]
    arrivals = np.cumsum([gap for gap, _, _ in rows])
    return trace_of(*((float(at), p, o) for at, (_, p, o) in zip(arrivals, rows)))
