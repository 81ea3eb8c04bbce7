"""What `splitwise plan` is asked, checked, and what all of its trials share."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Final, Literal

from splitwise_core.errors import UserError
from splitwise_planner.catalog import Catalog, load_catalog
from splitwise_planner.day import Day
from splitwise_planner.evaluate import Evaluator, prepare
from splitwise_planner.measured.failures import Faults
from splitwise_planner.measured.scaling import LONGEST_START_S
from splitwise_planner.modes import AS_SPECIFIED, Mode, Scheduling
from splitwise_planner.phase_times import load_phase_times
from splitwise_planner.resume import Notebook
from splitwise_planner.slo import OBJECTIVES
from splitwise_planner.trace import load_trace
from splitwise_planner.workload import Workload

Objective = Literal["cost", "power", "machines"]

MAX_SEEDS: Final = 100
MAX_SPARE: Final = 16
MAX_HEADROOM: Final = 10.0

LEAST_REQUESTS: Final = 20
"""Of a draw, on average: of fewer, percentiles say little, and there might be none."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """What a plan has to stay within."""

    dollars_per_hour: float | None = None
    power_units: float | None = None
    machines: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for. `designs` are kinds to size for `rate`, or whole clusters without one.

    Each kind is sized for every cap of `power_caps` (percent of a token machine's GPU power) and
    every degree of `tensor_parallel`. `headroom` multiplies the rate that a plan has to serve,
    `spare` is how many machines of each phase may be gone meanwhile. `frontier`: each kind is
    sized for every objective, so that the choice between them is seen. `day`: the winner is sized
    for its hours too, of which the busiest has `rate`; a machine that is added serves after
    `start_s`. `faults`: machines fail, in each draw at times of its own. `scheduling`: how the
    cluster places its requests.
    """

    model: str
    trace: Path
    designs: Sequence[str]
    rate: float | None
    objective: Objective
    budgets: Budgets
    seeds: int
    duration_s: float
    catalog: Path
    phase_times: Path
    mode: Mode = "compat"
    power_caps: Sequence[int] = ()
    tensor_parallel: Sequence[int] = ()
    headroom: float = 1.0
    spare: int = 0
    frontier: bool = False
    resume: Path | None = None
    day: Day | None = None
    start_s: float = 60.0
    faults: Faults | None = None
    scheduling: Scheduling = AS_SPECIFIED

    @property
    def hour(self) -> int | None:
        """The hour of its day that kinds are compared at; None where hours have no sizes."""
        return None if self.day is None else self.day.busiest.hour

    @property
    def kinds(self) -> list[str]:
        """Every kind with every cap and degree."""
        caps = [f"@{cap}" if cap != 100 else "" for cap in self.power_caps or [100]]
        degrees = [f"/{degree}" for degree in self.tensor_parallel] or [""]
        found = [f"{k}{cap}{degree}" for k in self.designs for cap in caps for degree in degrees]
        return list(dict.fromkeys(found))


def check(request: Request) -> None:
    """Raises UserError (invalid-plan) for numbers that have no sense."""
    for where, value, least, most in (
        ("--rate", request.rate if request.rate is not None else 1.0, 1e-3, 1e5),
        ("--seeds", request.seeds, 1, MAX_SEEDS),
        ("--duration", request.duration_s, 1.0, 1e5),
        ("--headroom", request.headroom, 1.0, MAX_HEADROOM),
        ("--spare", request.spare, 0, MAX_SPARE),
        ("--start", request.start_s, 0.0, LONGEST_START_S),
    ):
        if not least <= value <= most:
            raise refused(where, f"is {value:g}", f"give {least:g} to {most:g}")
    for name, budget in (
        ("--max-cost", request.budgets.dollars_per_hour),
        ("--max-power", request.budgets.power_units),
        ("--max-machines", request.budgets.machines),
    ):
        if budget is not None and not budget > 0:
            raise refused(name, f"is {budget:g}", "give a number above zero")
    rates = (request.rate or 1.0,) if request.day is None else filter(None, request.day.rates)
    least = min(rates)
    if (count := least * request.headroom * request.duration_s) < LEAST_REQUESTS:
        wrong = f"is {request.duration_s:g} s, in which {least:g} requests/s are {count:.2g} in all"
        fix = f"give {ceil(LEAST_REQUESTS / least / request.headroom)} s or more"
        raise refused("--duration", wrong, fix)


def workload_of(request: Request) -> Workload:
    """What requests are drawn from. Raises UserError (invalid-trace)."""
    hours = () if request.day is None else request.day.sizes
    return Workload(load_trace(request.trace), request.duration_s, hours)


@contextmanager
def prepared(request: Request) -> Iterator[tuple[Catalog, Evaluator]]:
    """What all trials share. Raises UserError for bad files, and for what has no sense.

    Compiled code runs without Python's lock, so threads simulate side by side; measured mode is
    Python, and gets processes.
    """
    check(request)
    catalog = load_catalog(request.catalog)
    model = catalog.model(request.model)
    times = load_phase_times(request.phase_times)
    seeds = range(request.seeds)
    evaluator = Evaluator(
        request.model,
        model,
        times,
        workload_of(request),
        seeds,
        request.mode,
        request.faults,
        request.scheduling,
        hour=request.hour,
    )
    if request.resume is not None:
        evaluator.notebook = Notebook(request.resume, _question(request))
    cores = cpu_count() or 1
    if request.mode != "measured" or cores == 1:
        yield catalog, evaluator
        return
    with ProcessPoolExecutor(
        cores, get_context("spawn"), initializer=prepare, initargs=(evaluator.alone(),)
    ) as others:
        try:
            yield catalog, replace(evaluator, others=others)
        except BaseException:
            others.shutdown(wait=False, cancel_futures=True)
            raise


def _question(request: Request) -> str:
    """All that a verdict depends on, but the design, the rate and the seed."""
    files = [path.read_bytes() for path in (request.trace, request.catalog, request.phase_times)]
    if request.day is not None:
        files += [column.tobytes() for one in request.day.sizes for column in one.sizes]
    asked = request.model, request.mode, request.duration_s, request.faults, request.scheduling
    return repr((*asked, OBJECTIVES, files))


def refused(where: str, wrong: str, fix: str) -> UserError:
    """An error of the question itself."""
    return UserError("invalid-plan", where=where, wrong=wrong, fix=fix)
