"""What a simulation is: the rules of the released simulator, or ours on measured times."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from splitwise_core.errors import UserError
from splitwise_core.policy.mixing import Disaggregation, Mixing
from splitwise_planner.catalog import Model
from splitwise_planner.compat import engine as compat
from splitwise_planner.design import Design
from splitwise_planner.measured import engine as measured
from splitwise_planner.measured import rules
from splitwise_planner.measured.broken_links import Break, breaks_of
from splitwise_planner.measured.failures import Failure, Faults
from splitwise_planner.measured.scaling import Scaling
from splitwise_planner.measured.used import Used
from splitwise_planner.outcome import Outcome
from splitwise_planner.phase_times import Key, Shape
from splitwise_planner.trace import Trace

Mode = Literal["compat", "measured"]

Result = tuple[Outcome, Used | None]
"""What became of the requests, and what the workers did where the mode tells."""


@dataclass(frozen=True, slots=True)
class Scheduling:
    """What of a cluster's `spec.scheduling` a simulation knows, with the defaults of that."""

    borrowing: bool = True
    prefix_caching: bool = True
    disaggregation: Disaggregation = Disaggregation.ALWAYS

    def asked(self) -> list[str]:
        """The options that ask for another than the default."""
        named = {
            "--no-borrowing": not self.borrowing,
            "--no-prefix-caching": not self.prefix_caching,
            "--disaggregation": self.disaggregation is not Disaggregation.ALWAYS,
        }
        return [option for option, is_asked in named.items() if is_asked]

    def as_spec(self) -> dict[str, bool | str]:
        """The fields of `spec.scheduling` that say it; those of the defaults are left out."""
        fields: dict[str, tuple[bool | str, bool | str]] = {
            "borrowing": (self.borrowing, AS_SPECIFIED.borrowing),
            "prefixCaching": (self.prefix_caching, AS_SPECIFIED.prefix_caching),
            "disaggregation": (self.disaggregation.value, AS_SPECIFIED.disaggregation.value),
        }
        return {name: own for name, (own, default) in fields.items() if own != default}

    @property
    def mixing(self) -> Mixing:
        """What it says of workers that serve both phases. Raises UserError where it contradicts
        itself, as the API server would."""
        if self.disaggregation is Disaggregation.NEVER and not self.borrowing:
            raise UserError(
                "invalid-plan",
                where="--no-borrowing",
                wrong="with --disaggregation Never all workers serve both phases",
                fix="leave one of the two out",
            )
        return Mixing(self.borrowing, self.disaggregation)


AS_SPECIFIED: Final = Scheduling()
"""The spec's own defaults."""

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
    scheduling: Scheduling = AS_SPECIFIED,
    link_faults: Faults | None = None,
) -> Simulate:
    """What simulates a trace on a design, whose machines and links fail as faults say, whose pools
    scale, and whose requests are placed as `scheduling` says. Raises UserError where it cannot."""
    if link_faults is not None and not design.splits:
        raise UserError(
            "invalid-plan",
            where="--link-mtbf",
            wrong=f"is for links between two pools, and {design} has one",
            fix="give a design of two, or leave it out",
        )
    if mode == "measured":
        own = rules.rules_for(times, name, model, design)
        own = replace(own, mixing=scheduling.mixing)
        return lambda trace: measured.simulate(
            trace if scheduling.prefix_caching else replace(trace, prefix_ids=()),
            design,
            own,
            failures_in(trace, design, faults),
            scaling,
            breaks_in(trace, design, link_faults),
        )
    asked = {"--mtbf": faults, "--link-mtbf": link_faults, "--autoscale": scaling}
    options = [option for option, value in asked.items() if value is not None]
    _check_compat(design, [*options, *scheduling.asked()])
    theirs = compat.rules_for(times, name, model, design)
    return lambda trace: (compat.simulate(trace, design, theirs), None)


def _check_compat(design: Design, options: Sequence[str]) -> None:
    """Raises UserError for a design, or options that are asked for, which compat mode does not
    know."""
    for option in options:
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


def breaks_in(trace: Trace, design: Design, faults: Faults | None) -> Sequence[Break]:
    """Breaks of the links between a design's machines while requests arrive, in order."""
    if faults is None:
        return ()
    span_s = float(trace.arrival_s.min()), float(trace.arrival_s.max())
    return breaks_of(faults, design.prompt, design.token, *span_s)
