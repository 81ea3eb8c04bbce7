"""`splitwise bench`: a load from a trace or a rate, sent when it is due, and what came of it."""

import asyncio
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO

from rich.console import Console
from rich.live import Live

from splitwise_cli.bench.answers import Asked
from splitwise_cli.bench.arrivals import fitted
from splitwise_cli.bench.client import Client
from splitwise_cli.bench.load import Load
from splitwise_cli.bench.options import Options
from splitwise_cli.bench.page import parts
from splitwise_cli.bench.prompts import TINY, Prompts
from splitwise_cli.bench.report import print_report, progress
from splitwise_cli.bench.rows import Rows
from splitwise_cli.bench.summary import Summary
from splitwise_cli.endpoint import open_router, served_model
from splitwise_core.errors import writing
from splitwise_core.trace import Arrival
from splitwise_planner.document import as_html

SHOWN_EVERY_S: Final = 0.25
LOGGED_EVERY_S: Final = 10.0
"""Where stderr is no terminal, a line so often."""

STOPPED: Final = 130


def bench(
    options: Options,
    url: str | None,
    model: str | None,
    files: tuple[Path | None, Path | None, Path | None],
    state_dir: Path | None,
) -> int:
    """Runs the load, prints its report and writes it to `files`, as JSON and HTML, and a CSV of its
    requests; the exit status.

    0 when every request was answered rightly or turned away, and every objective was kept, 130 when
    it was stopped, else 1.
    """
    options.check()
    total = options.count()
    with open_router(url, state_dir, timeout_s=10) as router:
        card = served_model(router)
        base_url = str(router.base_url).rstrip("/")
    name = model or card["id"]
    is_checked = options.answers == "check" or (options.answers == "auto" and name == TINY)
    prompts = Prompts(name, is_checked, options.seed)
    context = card.get("max_model_len")
    if not isinstance(context, int):
        context = None  # a server need not tell
    summary = Summary(options.slo, options.objectives())
    began = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with (
        _written("--json", files[0]) as out,
        _written("--html", files[1]) as page,
        _written("--out", files[2]) as requests,
    ):
        rows = None if requests is None else Rows(requests)
        run = _run(options, base_url, prompts, context, summary, total, rows)
        seconds, was_stopped = asyncio.run(run)
        about = {"url": base_url, "model": prompts.model, "stopped": was_stopped}
        about |= {"began": began, "load": options.body()}
        report = about | summary.body(seconds)
        if out is not None:
            out.write(json.dumps(report) + "\n")
        if page is not None:
            page.write(as_html(f"Load of {prompts.model}", parts(report)))
    print_report(report, Console(highlight=False, width=None if sys.stdout.isatty() else 140))
    kept = all(verdict["held"] for verdict in summary.verdicts)
    return STOPPED if was_stopped else int(not (summary.holds and kept))


async def _run(
    options: Options,
    url: str,
    prompts: Prompts,
    context: int | None,
    summary: Summary,
    total: int | None,
    rows: Rows | None,
) -> tuple[float, bool]:
    """Sends the load; the seconds that took, and whether a signal ended it."""

    def make(arrival: Arrival) -> Asked:
        fitting = fitted(arrival, context)
        summary.shortened += fitting != arrival
        return prompts.ask(fitting.prompt_tokens, fitting.output_tokens)

    async with Client(url, options.timeout) as client:
        load = Load(options.load(), make, client, summary, None if rows is None else rows.add)
        was_stopped = False

        def stop() -> None:
            nonlocal was_stopped
            was_stopped = True
            load.stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        showing = asyncio.create_task(_show(load, summary, total))
        try:
            await load.run()
        finally:
            showing.cancel()
            await asyncio.wait([showing])
        return load.seconds, was_stopped


async def _show(load: Load, summary: Summary, total: int | None) -> None:
    """Tells on stderr how it stands, until it is cancelled."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        while True:
            await asyncio.sleep(LOGGED_EVERY_S)
            console.print(progress(load, summary, total))
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(progress(load, summary, total), refresh=True)
            await asyncio.sleep(SHOWN_EVERY_S)


@contextmanager
def _written(option: str, file: Path | None) -> Iterator[TextIO | None]:
    """A file for the report, opened before an hour's load; None without one. Raises UserError."""
    if file is None:
        yield None
        return
    with writing(f"{option} {file}"):
        out = file.open("w", encoding="utf-8")
    with out:
        yield out
