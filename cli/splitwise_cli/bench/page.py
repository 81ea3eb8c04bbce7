"""A run, and two of them side by side, as the parts of a page with plots."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from splitwise_cli.bench.answers import Outcome
from splitwise_cli.bench.compare import Difference, Judgement
from splitwise_cli.bench.objectives import STAGES
from splitwise_cli.bench.report import verdict_text
from splitwise_cli.bench.runs import TIMES, Run, Slice, merged, percentile, run_of
from splitwise_cli.bench.summary import PERCENTS
from splitwise_cli.durations import duration
from splitwise_planner.charts import Line, chart
from splitwise_planner.document import Part

MOST_DRAWN: Final = 99.0
"""Percentiles beyond it would make the rest of a plot flat; the table has the largest."""

Points = list[tuple[float, float]]


def parts(report: Mapping[str, Any]) -> list[Part]:
    """One run: verdicts, figures, distributions, and how they went over time."""
    run = run_of("run", report)
    return [
        _about(report),
        *_verdicts(report),
        "# Times of right answers",
        _times(report),
        *(_distribution(name, [run]) for name in TIMES),
        "# Over the run",
        _chart_of_counts(run),
        *(_course(name, title, run) for name, title in TIMES.items()),
        "# What became of the requests",
        [["outcome", "requests"], *_outcomes(report["requests"])],
        *([["problem", "times"], *_problems(report)] for _ in [0] if report["problems"]),
    ]


def compared(
    first: Run, second: Run, differences: Sequence[Difference], unlike: Sequence[str]
) -> list[Part]:
    """Two runs: what differs, and their distributions in one picture."""
    names = {one.name: one.judgement for one in differences}
    real = [f"{name} ({judged})" for name, judged in names.items() if judged in _REAL]
    return [
        f"A: {first.name}, {_about(first.report)}",
        f"B: {second.name}, {_about(second.report)}",
        *([f"The loads are not the same: {'; '.join(unlike)}."] if unlike else []),
        f"Different for real: {', '.join(real)}." if real else "Nothing differs for real.",
        [["figure", "A", "B", "change", "standard error", ""], *map(row, differences)],
        "A difference is real when it is above 2 % and above three standard errors, which are told "
        "from how the slices of each run differ. What differs between the runs as a whole, such as "
        "another load on the machine, cannot be told from two runs.",
        *(_distribution(name, [first, second]) for name in TIMES),
    ]


_REAL: Final = (Judgement.BETTER, Judgement.WORSE)


def row(one: Difference) -> list[str]:
    """A figure of two runs as cells of a table."""
    change = "–" if one.change is None else f"{one.change:+.1%}"
    error = "–" if one.error is None else f"{one.error:.1%}"
    values = (_value(value, one.unit) for value in (one.first, one.second))
    return [one.name, *values, change, error, one.judgement.value]


def _value(value: float | None, unit: str) -> str:
    if value is None or unit == "s":
        return duration(value)
    return f"{value:.4g}/s" if unit else f"{value:.1%}"


_USUAL: Final = (None, 0, 1.0)
"""What is not worth a word: an option that was left out, or a scale that changes nothing."""


def _about(report: Mapping[str, Any]) -> str:
    requests = report["requests"]
    said = (
        f"{report['model']} at {report['url']}, {report['began']}: {requests['sent']} requests in "
        f"{report['seconds']:.1f} s, {report['requests_per_s']:.2f} right ones/s, "
        f"{report['output_tokens_per_s']:.0f} output tokens/s, goodput "
        f"{report['goodput_rps']:.2f} requests/s ({report['goodput_ratio']:.1%})."
    )
    asked = {name: value for name, value in report["load"].items() if value not in _USUAL}
    load = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in asked.items())
    stopped = " It was stopped before its end." if report["stopped"] else ""
    return f"{said} Load: {load}.{stopped}"


def _verdicts(report: Mapping[str, Any]) -> list[Part]:
    if not report["objectives"]:
        return []
    head = ["objective", "verdict"]
    rows = [
        [verdict_text(one), "kept" if one["held"] else "NOT KEPT"] for one in report["objectives"]
    ]
    return ["# Objectives", [head, *rows]]


def _times(report: Mapping[str, Any]) -> list[list[str]]:
    names = [*(f"p{percent}" for percent in PERCENTS), "mean", "max"]
    rows = [[title, report[f"{name}_s"]] for name, title in TIMES.items()]
    rows += [[name.replace("_", " "), report["stages_s"][name]] for name in STAGES]
    told = [[title, *(duration(found[name]) for name in names)] for title, found in rows]
    return [["", *(name.upper() if name[0] == "p" else name for name in names)], *told]


def _outcomes(requests: Mapping[str, int]) -> list[list[str]]:
    counted = [*(outcome.value for outcome in Outcome), "unsent", "shortened", "checked"]
    return [[name, str(requests[name])] for name in counted if requests[name] or name == "ok"]


def _problems(report: Mapping[str, Any]) -> list[list[str]]:
    return [[problem, str(count)] for problem, count in report["problems"].items()]


def _distribution(name: str, runs: Sequence[Run]) -> str:
    """The share of answers, or gaps, that took as long or less, up to MOST_DRAWN %."""
    lines = []
    for letter, run in zip("AB", runs):
        spread = merged(one.times[name] for one in run.slices)
        seconds = sorted(spread)
        sums = list(accumulate(spread[one] for one in seconds))
        points: Points = [(0.0, 0.0)]
        for one, below in zip(seconds, sums):
            points.append((_shown(name, one), 100 * below / sums[-1]))
            if points[-1][1] >= MOST_DRAWN:
                break
        lines.append(Line(f"{letter}: {run.name}" if len(runs) > 1 else "", points))
    return chart(f"{TIMES[name]}: how many took at most so long", _unit(name), "percent", lines)


def _course(name: str, title: str, run: Run) -> str:
    """Percentiles of each slice, over the time at which requests were due."""
    lines = [
        Line(
            f"P{percent}",
            [
                (_middle_s(number, run), _shown(name, found))
                for number, one in enumerate(run.slices)
                if (found := percentile(one.times[name], percent)) is not None
            ],
        )
        for percent in (50, 99)
    ]
    return chart(f"{title} of requests sent then", "seconds", _unit(name), lines)


def _chart_of_counts(run: Run) -> str:
    def line(name: str, of: str) -> Line:
        counts = [(_middle_s(i, run), getattr(s, of) / run.slice_s) for i, s in _numbered(run)]
        return Line(name, counts)

    lines = [line("sent", "sent"), line("right", "ok"), line("good", "good")]
    return chart("Requests by when they were sent", "seconds", "requests a second", lines)


def _numbered(run: Run) -> list[tuple[int, Slice]]:
    return list(enumerate(run.slices))


def _middle_s(number: int, run: Run) -> float:
    return (number + 0.5) * run.slice_s


def _unit(name: str) -> str:
    return "ms" if name == "tbt" else "seconds"


def _shown(name: str, seconds: float) -> float:
    return 1000 * seconds if name == "tbt" else seconds
