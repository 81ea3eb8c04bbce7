"""`splitwise top`: a cluster as it lives, until Ctrl-C, or once."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import typer
from rich.console import Console
from rich.live import Live

from splitwise_cli.top.picture import Picture, picture
from splitwise_cli.top.readings import Reading
from splitwise_cli.top.sources import Source, Unseen, at_url, on_this_machine
from splitwise_cli.top.view import view
from splitwise_core.errors import UserError

WINDOW_S: Final = 10.0
"""Rates and percentiles are over as long, as soon as it has been watched for that."""


def top(
    where: tuple[str | None, str | None, str | None, Path | None],
    interval_s: float,
    once: bool,
    output: Literal["table", "json"],
) -> None:
    """Shows the cluster `where` says: a URL, a name and namespace on Kubernetes, or a directory.

    Raises UserError when it cannot be seen from the start, or at all with `once`.
    """
    source = _source(*where)
    readings = [_first(source)]
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    if once:
        time.sleep(interval_s)
        readings.append(_first(source))
        _print(picture(*readings), console, output, "")
        return
    shown = picture(readings[0], readings[0])
    with _screen(console, output) as live:
        _draw(shown, console, output, live, "")
        for trouble in _follow(source, readings, interval_s):
            shown = shown if trouble else picture(readings[0], readings[-1])
            _draw(shown, console, output, live, trouble)


def _source(
    url: str | None, cluster: str | None, namespace: str | None, state_dir: Path | None
) -> Source:
    if cluster is not None:
        if url is not None:
            raise typer.BadParameter("--url and --cluster name two places; leave one of them out")
        from splitwise_cli.top.kubernetes import on_kubernetes

        return on_kubernetes(cluster, namespace)
    return on_this_machine(state_dir) if url is None else at_url(url)


def _first(source: Source) -> Reading:
    try:
        return source()
    except Unseen as why:
        raise UserError(
            "not-running",
            where="splitwise top",
            wrong=f"the cluster cannot be seen: {why}",
            fix="start one with `splitwise up`, or say which one: --url, --cluster or --state-dir",
        ) from why


def _follow(source: Source, readings: list[Reading], interval_s: float) -> Iterator[str]:
    """Reads on and on; yields after each reading, with what was wrong when there was none."""
    seen_s = [time.monotonic()]
    while True:
        time.sleep(interval_s)
        try:
            readings.append(source())
        except Unseen as why:
            gone_s = time.monotonic() - seen_s[-1]
            yield f"no answer for {gone_s:.0f} s, these numbers are old: {why}"
            continue
        seen_s.append(time.monotonic())
        while len(seen_s) > 2 and seen_s[1] <= seen_s[-1] - WINDOW_S:
            del seen_s[0], readings[0]
        yield ""


@contextmanager
def _screen(console: Console, output: str) -> Iterator[Live | None]:
    """The terminal, drawn over; None where each picture is printed below the last."""
    if output == "json" or not console.is_terminal:
        yield None
        return
    with Live(console=console, auto_refresh=False, screen=False) as live:
        yield live


def _draw(shown: Picture, console: Console, output: str, live: Live | None, trouble: str) -> None:
    if live is None:
        _print(shown, console, output, trouble)
    else:
        live.update(view(shown, datetime.now(), trouble), refresh=True)


def _print(shown: Picture, console: Console, output: str, trouble: str) -> None:
    if output == "json":
        print(json.dumps(shown.body() | ({"trouble": trouble} if trouble else {})), flush=True)
    else:
        console.print(view(shown, datetime.now(), trouble))
