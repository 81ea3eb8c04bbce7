"""A summary for people: a line while it goes on, a table at the end."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from splitwise_cli.bench.answers import Outcome
from splitwise_cli.bench.load import Load
from splitwise_cli.bench.objectives import SHARES, STAGES
from splitwise_cli.bench.summary import PERCENTS, Summary
from splitwise_cli.durations import duration

LATE_S = 0.01
"""Of the requests, 1 % may be sent so late before the report says that the client was too slow."""


def progress(load: Load, summary: Summary, total: int | None) -> Text:
    """How it stands, in one line."""
    of = f"/{total}" if total else ""
    outcomes = summary.outcomes
    bad = [f"{outcomes[o]} {o}" for o in Outcome if o is not Outcome.OK and outcomes[o]]
    ttft = (duration(summary.ttft.percentile(percent)) for percent in (50, 99))
    parts = [
        f"{load.seconds:5.1f} s",
        f"{summary.ended + load.open}{of} sent, {load.open} open, {outcomes[Outcome.OK]} right",
        *bad,
        f"{summary.output_tokens / load.seconds:.0f} tokens/s",
        "TTFT P50 {} P99 {}".format(*ttft),
        f"TBT P99 {duration(summary.tbt.percentile(99))}",
    ]
    return Text(" · ".join(parts), no_wrap=True, overflow="ellipsis")


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """The whole report: times, rates, counts, and what went wrong."""
    console.print(_times(report))
    requests = report["requests"]
    counts = [f"{requests[o]} {o}" for o in Outcome if requests[o] or o is Outcome.OK]
    counts += [f"{requests[name]} {name}" for name in ("unsent", "shortened") if requests[name]]
    if requests["checked"]:
        counts.append(f"{requests['checked']} answers checked word for word")
    console.print(f"{requests['sent']} requests in {report['seconds']:.1f} s: {', '.join(counts)}")
    rates = (report["requests_per_s"], report["prompt_tokens_per_s"], report["output_tokens_per_s"])
    console.print("{:.2f} requests/s, {:.0f} prompt and {:.0f} output tokens/s".format(*rates))
    good = f"goodput {report['goodput_rps']:.2f} requests/s ({report['goodput_ratio']:.1%})"
    console.print(f"{good} {_slo(report['slo'])}")
    for verdict in report["objectives"]:
        word, colour = ("kept", "green") if verdict["held"] else ("NOT KEPT", "red")
        console.print(f"[{colour}]{word}[/] {verdict_text(verdict)}")
    for problem, count in report["problems"].items():
        console.print(Text(f"{count} x {problem}", style="red"))
    if (late_s := report["client_late_s"]["p99"] or 0.0) > LATE_S:
        late = f"the client itself sent 1 % of the requests {duration(late_s)} or more too late"
        fix = "give it more of this machine, or a lower rate"
        console.print(Text(f"{late}: {fix}", style="yellow"))


def verdict_text(verdict: Mapping[str, Any]) -> str:
    """An objective, and what was measured."""
    name, limit, measured = verdict["objective"], verdict["limit"], verdict["measured"]
    if name in SHARES:
        found = "nothing" if measured is None else f"{measured:.2%}"
        return f"{name} at least {limit * 100:.6g} %, measured {found}"
    return f"{name} at most {duration(limit)}, measured {duration(measured)}"


def _times(report: Mapping[str, Any]) -> Table:
    table = Table()
    table.add_column("")
    names = [*(f"p{percent}" for percent in PERCENTS), "mean", "max"]
    for name in names:
        table.add_column(name.upper() if name.startswith("p") else name, justify="right")
    rows = [("TTFT", report["ttft_s"]), ("TBT", report["tbt_s"]), ("E2E", report["e2e_s"])]
    rows += [(name.replace("_", " "), report["stages_s"][name]) for name in STAGES]
    for title, found in rows:
        if found["max"] is not None:
            table.add_row(title, *(duration(found[name]) for name in names))
    return table


def _slo(slo: Mapping[str, float | None]) -> str:
    limits = {name.removesuffix("_s").upper(): s for name, s in slo.items() if s is not None}
    told = [f"{name} {duration(limit_s)}" for name, limit_s in limits.items()]
    if not told:
        return "without limits: --slo-ttft, --slo-tbt and --slo-e2e set some"
    return f"within {', '.join(told)}"
