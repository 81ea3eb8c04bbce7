"""The nine objectives of the Splitwise paper, and whether a simulated cluster keeps them.

Each bounds a percentile of a slowdown: a request's latency over that of the same request alone on a
DGX-A100 (ISCA 2024, Table VI), or on what the catalogue says for a model that was not measured
there. How the slowdowns are computed follows the released notebooks.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from splitwise_planner.catalog import Model
from splitwise_planner.outcome import Outcome
from splitwise_planner.phase_times import Key, Knots, Shape, interpolated, knots_of


@dataclass(frozen=True, slots=True)
class Objective:
    """A percentile of a slowdown that has to stay below a limit."""

    latency: str
    percentile: int
    limit: float

    @property
    def name(self) -> str:
        """As in reports: ttft_p50."""
        return f"{self.latency}_p{self.percentile}"


OBJECTIVES: Final = (
    Objective("ttft", 50, 2.0),
    Objective("ttft", 90, 3.0),
    Objective("ttft", 99, 6.0),
    Objective("tbt", 50, 1.25),
    Objective("tbt", 90, 1.5),
    Objective("tbt", 99, 5.0),
    Objective("e2e", 50, 1.25),
    Objective("e2e", 90, 1.5),
    Objective("e2e", 99, 5.0),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The slowdown at each objective's percentile, and which objectives it breaks.

    `unfinished` requests break all of them: their latency has no bound.
    """

    slowdown: dict[str, float]
    unfinished: int

    @property
    def is_met(self) -> bool:
        """Whether every objective holds."""
        return not self.broken

    @property
    def broken(self) -> list[str]:
        """Objectives that do not hold, in the table's order."""
        return [o.name for o in OBJECTIVES if not self._share(o) < 1]

    @property
    def binding(self) -> str:
        """The objective that is nearest to its limit, or furthest beyond."""
        return max(OBJECTIVES, key=self._share).name

    @property
    def load(self) -> float:
        """The binding objective's slowdown as a share of its limit; below 1 all of them hold."""
        return max(map(self._share, OBJECTIVES))

    def _share(self, objective: Objective) -> float:
        if self.unfinished:
            return float("inf")
        return self.slowdown[objective.name] / objective.limit


def reference_for(times: dict[Key, list[Shape]], name: str, model: Model) -> Knots:
    """The times that slowdowns are against, at the model's tensor-parallel degree. Raises UserError
    (invalid-phase-times)."""
    return knots_of(times, name, model.reference_gpu, model.tensor_parallel)


def judge(outcome: Outcome, reference: Knots) -> Verdict:
    """How an outcome stands to the objectives; `reference` has the times of a request alone."""
    if outcome.unfinished:
        return Verdict({}, outcome.unfinished)
    slowdowns = _slowdowns(outcome, reference)
    values = {o.name: float(np.percentile(slowdowns[o.latency], o.percentile)) for o in OBJECTIVES}
    return Verdict(values, 0)


def _slowdowns(outcome: Outcome, reference: Knots) -> dict[str, NDArray[np.float64]]:
    """Of each request. The time between tokens alone is looked up at the prompt's length, as the
    notebooks do."""
    prompts = outcome.prompt_tokens.astype(np.float64)
    ttft_s = interpolated(reference.tokens, reference.prompt_s, prompts)
    tbt_s = interpolated(reference.tokens, reference.token_s, prompts)
    e2e_s = ttft_s + tbt_s * (outcome.output_tokens - 1)
    return {
        "ttft": outcome.ttft_s / ttft_s,
        "tbt": outcome.tbt_s / tbt_s,
        "e2e": outcome.e2e_s / e2e_s,
    }
