"""Should this load be disaggregated, and how split? From what a cluster measured of its stages.

Pure. The same workers are thought of in every arrangement: all of them doing both phases, or so
many for prompts and the others for tokens. What each would do with this load is told by the
formulas of `arrangements.py`, from what was measured of the stages.

How sure an answer is depends on how many requests it comes from, and on how well the same formulas
tell what the cluster, arranged as it is, was measured to do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final

from splitwise_core.policy.arrangements import (
    Expected,
    Load,
    Pair,
    Stages,
    compared,
    e2e_of,
    load_of,
    shared,
    split_over,
)

MARGIN: Final = 0.1
"""What differs by less is no difference: the formulas are not better than that."""

FEWEST: Final = 20
"""Of fewer requests nothing is told."""

SOME: Final = 50
MANY: Final = 200
"""Requests from which an answer may be of medium, and of high, confidence."""


class Verdict(StrEnum):
    """How the workers should be arranged."""

    SPLIT = "Split"
    TOGETHER = "Together"
    EITHER = "Either"
    UNKNOWN = "Unknown"


class Why(StrEnum):
    """What the verdict is told from."""

    TOO_FEW_REQUESTS = "TooFewRequests"
    ONE_WORKER = "OneWorker"
    NO_HAND_OVER_MEASURED = "NoHandOverMeasured"
    OVERLOADED = "Overloaded"
    END_TO_END = "EndToEnd"
    TOKEN_TAIL = "TokenTail"
    NO_DIFFERENCE = "NoDifference"


ABOUT: Final = {
    Why.TOO_FEW_REQUESTS: f"fewer than {FEWEST} requests ended while it was watched",
    Why.ONE_WORKER: "one worker does both phases; there is nothing to split",
    Why.NO_HAND_OVER_MEASURED: "a split would be better if a hand-over cost nothing, and none was "
    "measured: try it with a prompt and a token pool",
    Why.OVERLOADED: "no arrangement of these workers keeps up with the load; add workers",
    Why.END_TO_END: "requests end sooner",
    Why.TOKEN_TAIL: "requests end as soon, and their tokens come more evenly",
    Why.NO_DIFFERENCE: "the formulas see no difference that they could be trusted with",
}


class Confidence(StrEnum):
    """How far an answer can be relied on."""

    HIGH = "High"
    MEDIUM = "Medium"
    LOW = "Low"


@dataclass(frozen=True, slots=True)
class Advice:
    """The verdict, and the numbers behind it.

    `split` is the best of all, also where the verdict is another; `together` what it is compared
    with. `measured_e2e_s` and `expected_e2e_s` are of the cluster as it is.
    """

    verdict: Verdict
    why: Why
    confidence: Confidence
    requests: int
    requests_per_s: float = 0.0
    prompt_s: float = 0.0
    hand_over_s: float = 0.0
    step_s: float = 0.0
    output_tokens: float = 0.0
    measured_e2e_s: float = 0.0
    expected_e2e_s: float = 0.0
    split: Expected | None = None
    together: Expected | None = None


def advise(stages: Stages) -> Advice:
    """Whether the phases should be split over these workers, how, and how sure that is."""
    if stages.requests < FEWEST or not stages.prefills or stages.seconds <= 0:
        return _nothing(stages, Why.TOO_FEW_REQUESTS)
    if stages.workers < 2:
        return _nothing(stages, Why.ONE_WORKER)
    load = load_of(stages)
    pairs = compared(load, stages.workers)
    verdict, why = _verdict(pairs)
    if verdict is Verdict.SPLIT and not stages.transfers:  # it would be, were a hand-over free
        verdict, why = Verdict.UNKNOWN, Why.NO_HAND_OVER_MEASURED
    return _told(stages, load, pairs, verdict, why)


def _verdict(pairs: Sequence[Pair]) -> tuple[Verdict, Why]:
    """What is better, whichever of the pairs is true."""
    if not any(together or split for together, split in pairs):
        return Verdict.UNKNOWN, Why.OVERLOADED
    for why, read in ((Why.END_TO_END, e2e_of), (Why.TOKEN_TAIL, _tail_s)):
        sides = {_better(read(together), read(split)) for together, split in pairs}
        speaking = sides - {Verdict.EITHER}
        if len(speaking) == 1:
            return speaking.pop(), why
        if speaking:
            break
    return Verdict.EITHER, Why.NO_DIFFERENCE


def _nothing(stages: Stages, why: Why) -> Advice:
    return Advice(Verdict.UNKNOWN, why, Confidence.LOW, stages.requests)


def _tail_s(one: Expected | None) -> float:
    return one.tail_s if one else inf


def _better(together_s: float, split_s: float) -> Verdict:
    if split_s * (1 + MARGIN) < together_s:
        return Verdict.SPLIT
    return Verdict.TOGETHER if together_s * (1 + MARGIN) < split_s else Verdict.EITHER


def _told(stages: Stages, load: Load, pairs: Sequence[Pair], verdict: Verdict, why: Why) -> Advice:
    """The advice with its numbers: those of steps that stay as long, the less kind to a split."""
    together, split = pairs[0]
    measured_s = stages.e2e_s / stages.requests
    as_it_is = (
        shared(load, stages.workers)
        if stages.mixed_workers == stages.workers
        else split_over(load, max(1, stages.prompt_workers), load.decoding_workers)
    )
    expected_s = e2e_of(as_it_is)
    off = abs(expected_s / measured_s - 1) if measured_s > 0 else inf
    return Advice(
        verdict=verdict,
        why=why,
        confidence=_confidence(stages.requests, off, why),
        requests=stages.requests,
        requests_per_s=load.rate,
        prompt_s=load.prompt_s,
        hand_over_s=load.hand_over_s,
        step_s=load.step_s,
        output_tokens=load.decoded + 1,
        measured_e2e_s=measured_s,
        expected_e2e_s=expected_s if expected_s < inf else 0.0,
        split=split,
        together=together,
    )


def _confidence(requests: int, off: float, why: Why) -> Confidence:
    """`off`: by what part the formulas miss what was measured."""
    if requests >= MANY and off <= 0.25 and why is not Why.NO_DIFFERENCE:
        return Confidence.HIGH
    return Confidence.MEDIUM if requests >= SOME and off <= 0.5 else Confidence.LOW
