"""The picture on a terminal: a table of pools, and lines about requests. Fits 80 columns."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from splitwise_cli.durations import duration
from splitwise_cli.top.picture import Picture, PoolLine

BUSY: Final = 0.9
"""A share that is told in yellow."""
_STAGES: Final = {
    "queue": "queue",
    "prefill": "prefill",
    "transfer": "transfer",
    "firstDecode": "first decode",
}
_CLIENTS: Final = {"ttft": "TTFT", "tbt": "TBT", "e2e": "E2E"}


def view(shown: Picture, at: datetime, trouble: str = "") -> RenderableType:
    """All of it. `trouble`: why these numbers are old; empty when they are not."""
    return Group(
        _head(shown, at),
        _pools(shown),
        _requests(shown),
        _times(shown),
        *(_pair(pair, shown) for pair in shown.transfer),
        *(_scaled(line) for line in shown.pools if line.scaled),
        *(_red(f"router {name}: {why}") for name, why in shown.missing.items()),
        *([_red(trouble)] if trouble else []),
    )


def _head(shown: Picture, at: datetime) -> Text:
    text = Text.assemble((shown.name, "bold"), f"  {shown.model}  ")
    if shown.why_not_ready is None:
        text.append("ready", "green")
    else:
        text.append(shown.why_not_ready, "red")
    over = f", last {shown.seconds:.0f} s" if shown.seconds else ""
    return text.append(f"  {at:%H:%M:%S}{over}", "dim")


def _pools(shown: Picture) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("pool", overflow="ellipsis", no_wrap=True, max_width=18)
    for name in ("ready", "util", "KV", "running", "queue", "tokens", "wait"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="ellipsis", no_wrap=True)
    for line in shown.pools:
        pool = line.pool
        table.add_row(
            pool.name,
            _ready(line),
            _share(pool.utilisation),
            _share(line.kv_fill),
            f"{pool.running}/{pool.max_sequences}",
            str(pool.queued_requests),
            number(pool.queued_tokens),
            duration(pool.backlog_s) if pool.queued_tokens else "–",
            _notes(line),
        )
    return table


def _ready(line: PoolLine) -> Text:
    wanted = line.pool.workers if line.desired is None else line.desired
    return Text(f"{line.pool.ready}/{wanted}", "" if line.pool.ready >= wanted else "red")


def _notes(line: PoolLine) -> str:
    counts = {"draining": line.pool.draining, "borrowed": line.pool.borrowed}
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _requests(shown: Picture) -> Text:
    per_s = shown.per_s
    parts = [f"{shown.answered_per_s:.3g} requests/s answered"]
    if shown.failed_per_s:
        parts.append(f"{shown.failed_per_s:.3g}/s not")
    prompts, output = (number(per_s[name]) for name in ("promptTokens", "outputTokens"))
    parts += [
        f"{prompts} prompt and {output} output tokens/s",
        f"{shown.running} running",
    ]
    waiting = f"{shown.waiting} waiting at the router"
    if shown.waiting:
        waiting += f" ({number(shown.waiting_tokens)} tokens, {duration(shown.expected_wait_s)})"
    return Text(" · ".join([*parts, waiting]), overflow="fold")


def _times(shown: Picture) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    names = _CLIENTS | _STAGES
    for title in names.values():
        table.add_column(title, justify="right", no_wrap=True)
    for percent in (50, 99):
        cells = (duration(shown.times[name].percentile(percent)) for name in names)
        table.add_row(f"P{percent}", *cells)
    return table


def _pair(pair: Mapping[str, Any], shown: Picture) -> Text:
    text = f"KV {pair['from']} -> {pair['to']}: {pair['transport']}"
    if pair["bytesPerSecond"]:
        text += f", the link does {number(pair['bytesPerSecond'])}B/s"
    if len(shown.transfer) == 1:
        text += f", requests moved {number(shown.per_s['kvBytes'])}B/s"
    if pair["failing"]:
        return _red(f"{text}; {pair['failing']} of {pair['pairs']} links fail")
    return Text(text)


def _scaled(line: PoolLine) -> Text:
    return Text(f"{line.pool.name}: {line.scaled}", overflow="fold")


def _red(text: str) -> Text:
    return Text(text, "red", overflow="fold")


def _share(share: float) -> Text:
    return Text(f"{share:.0%}", "yellow" if share >= BUSY else "")


def number(value: float) -> str:
    """Three digits, with the letter of a thousand, a million or more."""
    for least, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= least:
            return f"{value / (1e3 if letter == 'k' else least):.3g} {letter}"
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"
