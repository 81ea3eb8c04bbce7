"""`splitwise doctor --url`: should a running cluster's load be disaggregated, and how split?"""

import json
import sys
import time
from dataclasses import asdict
from typing import Literal

import httpx
from rich.console import Console
from rich.progress import track
from rich.table import Table

from splitwise_cli.endpoint import open_router, served_model
from splitwise_core.errors import UserError
from splitwise_core.policy.advice import ABOUT, Advice, advise
from splitwise_core.policy.arrangements import Expected, Stages
from splitwise_core.stage_metrics import stages_of

TIMEOUT_S = 10.0


def advise_on(url: str, seconds: float, output: Literal["table", "json"]) -> None:
    """Watches the cluster's load for so many seconds and prints the advice.

    Raises UserError where no router answers.
    """
    with open_router(url, None, TIMEOUT_S) as router:
        served_model(router)
        before = _stages(router)
        _wait(seconds, quiet=output == "json" or not sys.stderr.isatty())
        found = _stages(router).since(before)
    if found is None:
        raise UserError(
            "not-running",
            where=url,
            wrong="the router's counters began anew while it was watched: it has been restarted, "
            "or there are several behind this address",
            fix="try again; name one router's own address where there are several",
        )
    advice = advise(found)
    if output == "json":
        print(json.dumps(asdict(advice), indent=2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(_sentence(advice))
    if advice.requests_per_s:
        console.print(_load(advice))
        console.print(_table(advice))


def _stages(router: httpx.Client) -> Stages:
    try:
        page = router.get("/metrics").raise_for_status().text
        return stages_of([page], time.monotonic())
    except (httpx.HTTPError, ValueError) as error:
        raise UserError(
            "not-running",
            where=str(router.base_url),
            wrong=f"no router tells its metrics there: {error}",
            fix="name the address of a router with --url",
        ) from error


def _wait(seconds: float, quiet: bool) -> None:
    parts = 50
    watched = range(parts)
    what = f"watching the load for {seconds:g} s"
    shown = watched if quiet else track(watched, what, console=Console(stderr=True), transient=True)
    for _ in shown:
        time.sleep(seconds / parts)


def _sentence(advice: Advice) -> str:
    sure = advice.confidence.value.lower()
    text = f"[bold]{advice.verdict.value}[/]: {ABOUT[advice.why]} "
    text += f"({advice.requests} requests, confidence {sure})"
    split = advice.split
    return text if split is None else f"{text}\nBest split: {_arrangement(split, is_split=True)}"


def _load(advice: Advice) -> str:
    return (
        f"Measured: {advice.requests_per_s:.3g} requests/s; prompts take {advice.prompt_s:.3g} s, "
        f"hand-overs {advice.hand_over_s:.3g} s, answers {advice.output_tokens:.0f} tokens of "
        f"{advice.step_s:.3g} s. End to end {advice.measured_e2e_s:.3g} s; the formulas say "
        f"{advice.expected_e2e_s:.3g} s."
    )


def _table(advice: Advice) -> Table:
    table = Table()
    for name in ("workers", "busy with prompts", "first token", "token", "1 in 100", "end to end"):
        table.add_column(name)
    for one, is_split in ((advice.split, True), (advice.together, False)):
        if one is None:
            table.add_row("split" if is_split else "together", *["falls behind"] * 5)
            continue
        seconds = (one.ttft_s, one.tbt_s, one.tail_s, one.e2e_s)
        busy = f"{one.prompt_busy:.0%}"
        table.add_row(_arrangement(one, is_split), busy, *(f"{each:.3g} s" for each in seconds))
    return table


def _arrangement(one: Expected, is_split: bool) -> str:
    if is_split:
        return f"{one.prompt_workers} prompt, {one.token_workers} token"
    return f"{one.prompt_workers} mixed"
