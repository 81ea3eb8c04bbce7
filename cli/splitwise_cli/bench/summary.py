"""What came of all requests so far: counts, percentiles, throughput, goodput. Memory is bounded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from splitwise_cli.bench.answers import Answer, Outcome
from splitwise_cli.bench.objectives import STAGES, Objective, verdicts
from splitwise_cli.bench.sketch import Sketch
from splitwise_cli.bench.timeline import Slice, Timeline

PERCENTS: Final = (50, 90, 99)
MOST_PROBLEMS: Final = 8  # different ones that are told word for word


@dataclass(frozen=True, slots=True)
class Slo:
    """What a good answer keeps to, in seconds; None: anything is good enough."""

    ttft_s: float | None = None
    tbt_s: float | None = None  # the mean of the answer's own
    e2e_s: float | None = None

    def met_by(self, answer: Answer) -> bool:
        """Whether the answer is right, and in time in every respect that counts."""
        ttft_s = answer.e2e_s if answer.ttft_s is None else answer.ttft_s
        seen = ((ttft_s, self.ttft_s), (answer.tbt_s, self.tbt_s), (answer.e2e_s, self.e2e_s))
        in_time = all(limit_s is None or took_s <= limit_s for took_s, limit_s in seen)
        return answer.outcome is Outcome.OK and in_time

    def body(self) -> dict[str, float | None]:
        """As it stands in the report."""
        return {"ttft_s": self.ttft_s, "tbt_s": self.tbt_s, "e2e_s": self.e2e_s}


@dataclass(slots=True)
class Summary:
    """Adds up answers. Times are those of right answers; others have their own counts."""

    slo: Slo
    objectives: Sequence[Objective] = ()
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    good: int = 0
    checked: int = 0  # answers whose words were compared
    shortened: int = 0  # requests that the model's context made shorter
    unsent: int = 0  # requests that were due while too many were open
    without_retry_after: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    kv_bytes: int = 0
    ttft: Sketch = field(default_factory=Sketch)
    tbt: Sketch = field(default_factory=Sketch)
    e2e: Sketch = field(default_factory=Sketch)
    timeline: Timeline = field(default_factory=Timeline)
    late: Sketch = field(default_factory=Sketch)
    stages: dict[str, Sketch] = field(default_factory=lambda: {name: Sketch() for name in STAGES})

    def add(self, answer: Answer) -> None:
        """Counts an answer that has ended, well or not."""
        self.outcomes[answer.outcome] += 1
        self.late.add(answer.late_s)
        is_good, within = self.slo.met_by(answer), self.timeline.at(answer.due_s)
        within.sent += 1
        within.good += is_good
        within.output_tokens += answer.output_tokens
        self.good += is_good
        self.output_tokens += answer.output_tokens
        if answer.outcome is Outcome.OK:
            self._add_right(answer, within)
        elif answer.outcome is not Outcome.UNFINISHED:
            self._add_problem(f"{answer.outcome}: {answer.detail}")
        rejected = answer.outcome is Outcome.REJECTED
        self.without_retry_after += rejected and not answer.retry_after
        self.checked += answer.asked.answer is not None and answer.outcome in (
            Outcome.OK,
            Outcome.WRONG,
        )

    @property
    def ended(self) -> int:
        """Answers counted so far."""
        return self.outcomes.total()

    @property
    def holds(self) -> bool:
        """Whether all could be sent, and all were answered rightly or turned away, one at least."""
        ended = self.outcomes[Outcome.OK] + self.outcomes[Outcome.REJECTED]
        return not self.unsent and ended == self.ended and self.outcomes[Outcome.OK] > 0

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """The objectives, and whether they were kept so far."""
        return verdicts(self.objectives, self._measured)

    def _measured(self, objective: Objective) -> float | None:
        """What an objective is about; None when there is nothing to tell it from."""
        if objective.is_share:
            good = self.good if objective.name == "goodput" else self.outcomes[Outcome.OK]
            return good / self.ended if self.ended else None
        own = {"ttft": self.ttft, "tbt": self.tbt, "e2e": self.e2e}
        sketch = own.get(objective.time) or self.stages[objective.time]
        if objective.statistic == "mean":
            return sketch.mean
        if objective.statistic == "max":
            return sketch.most if sketch.count else None
        return sketch.percentile(float(objective.statistic.removeprefix("p")))

    def body(self, seconds: float) -> dict[str, Any]:
        """The report as an object; `seconds` are those from the first request to the last end."""
        sent = self.ended
        return {
            "seconds": seconds,
            "requests": {"sent": sent}
            | {outcome.value: self.outcomes[outcome] for outcome in Outcome}
            | {"unsent": self.unsent, "shortened": self.shortened, "checked": self.checked},
            "ttft_s": _body(self.ttft),
            "tbt_s": _body(self.tbt),
            "e2e_s": _body(self.e2e),
            "requests_per_s": self.outcomes[Outcome.OK] / seconds,
            "prompt_tokens_per_s": self.prompt_tokens / seconds,
            "output_tokens_per_s": self.output_tokens / seconds,
            "slo": self.slo.body(),
            "goodput_rps": self.good / seconds,
            "goodput_ratio": self.good / sent if sent else 0.0,
            "objectives": self.verdicts,
            "stages_s": {name: _body(sketch) for name, sketch in self.stages.items()},
            "kv_bytes": self.kv_bytes,
            "rejected_without_retry_after": self.without_retry_after,
            "client_late_s": _body(self.late),
            "problems": dict(self.problems.most_common()),
            "timeline": self.timeline.body(),
        }

    def _add_right(self, answer: Answer, within: Slice) -> None:
        within.ok += 1
        self.prompt_tokens += answer.asked.prompt_tokens
        self.e2e.add(answer.e2e_s, within.e2e)
        if answer.ttft_s is not None:
            self.ttft.add(answer.ttft_s, within.ttft)
        self.tbt.add_all(answer.gaps_s, within.tbt)
        self.kv_bytes += int(answer.told("kv_bytes") or 0)
        for name, sketch in self.stages.items():
            if (milliseconds := answer.told(f"{name}_ms")) is not None:
                sketch.add(milliseconds / 1000)

    def _add_problem(self, text: str) -> None:
        if text in self.problems or len(self.problems) < MOST_PROBLEMS:
            self.problems[text] += 1


def _body(sketch: Sketch) -> dict[str, float | None]:
    """A distribution in the report."""
    found = {f"p{percent}": sketch.percentile(percent) for percent in PERCENTS}
    return found | {"mean": sketch.mean, "max": sketch.most if sketch.count else None}
