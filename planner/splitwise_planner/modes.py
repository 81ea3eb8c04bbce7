"""What a simulation is: the rules of the released simulator, or ours on measured times."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal

from splitwise_core.errors import UserError
from splitwise_planner.catalog import Model
from splitwise_planner.compat import engine as compat
from splitwise_planner.design import Design
from splitwise_planner.measured import engine as measured
from splitwise_planner.measured import rules
from splitwise_planner.measured.failures import Failure, Faults
from splitwise_planner.measured.scaling import Scaling
from splitwise_planner.measured.used import Used
from splitwise_planner.outcome import Outcome
from splitwise_planner.phase_times import Key, Shape
from splitwise_planner.trace import Trace

Mode = Literal["compat", "measured"]

Result = tuple[Outcome, Used | None]
"""What became of the requests, and what the workers did where the mode tells."""

Simulate = Callable[[Trace], Result]

NOTES: Final[dict[Mode, str]] = {
    "compat": "the released simulator's rules: figures to compare with the paper's, not to buy by",
    "measured": "our policies on measured phase times: a simulation, no hardware was asked",
}


def simulation_of(
    mode: Mode,
    times: dict[Key, list[Shape]],
    name: str,
    model: Model,
    design: Design,
    faults: Faults | None = None,
    scaling: Scaling | None = None,
) -> Simulate:
    """What simulates a trace on a design, whose machines fail as `faults` say, and whose pools
    scale. Raises UserError where it cannot."""
    if mode == "measured":
        own = rules.rules_for(times, name, model, design)
        return lambda trace: measured.simulate(
            trace, design, own, failures_in(trace, design, faults), scaling
        )
    for option, asked in (("--mtbf", faults), ("--autoscale", scaling)):
        if asked is not None:
            raise UserError(
                "invalid-plan",
                where=option,
                wrong="asks for what compat mode does not know",
                fix="use --mode measured, or leave it out",
            )
    if design.tensor_parallel:
        raise UserError(
            "invalid-design",
            where=str(design),
            wrong="names a tensor-parallel degree, which compat mode does not know",
            fix="use --mode measured, or leave the degree out",
        )
    theirs = compat.rules_for(times, name, model, design)
    return lambda trace: (compat.simulate(trace, design, theirs), None)


def failures_in(trace: Trace, design: Design, faults: Faults | None) -> Sequence[Failure]:
    """Failures of a design's machines while requests arrive, in order.

    Each phase has draws of its own: a machine more of one changes nothing of the other's.
    """
    if faults is None:
        return ()
    span_s = float(trace.arrival_s.min()), float(trace.arrival_s.max())
    prompt = faults.drawn(design.prompt, *span_s)
    token = replace(faults, seed=~faults.seed).drawn(design.token, *span_s)
    numbered = (replace(one, machine=design.prompt + one.machine) for one in token)
    return sorted([*prompt, *numbered], key=lambda failure: (failure.at_s, failure.machine))
