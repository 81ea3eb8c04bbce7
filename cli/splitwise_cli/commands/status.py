"""`splitwise status`: what runs, where, and how it is."""

import json
import sys
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from splitwise_cli.runner.state import StateDir, default_state_dir


def status(output: Literal["table", "json"], state_dir: Path | None) -> None:
    """Prints the status. Raises UserError when no cluster is up."""
    found = StateDir((state_dir or default_state_dir()).absolute()).running()
    if output == "json":
        print(json.dumps(found, indent=2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(_table(found))
    console.print(f"{found['endpoint']}/v1 serves [bold]{found['model']['name']}[/]")


def _table(status: dict[str, Any]) -> Table:
    table = Table()
    for name in ("pod", "role", "address", "ready", "restarts", "processes"):
        table.add_column(name)
    for pod in status["pods"]:
        processes = ", ".join(f"{c['name']} {c['pid'] or '–'}" for c in pod["containers"])
        ready = "[green]yes[/]" if pod["ready"] else "[red]no[/]"
        restarts = str(pod["restarts"])
        table.add_row(pod["name"], pod["role"], pod["address"], ready, restarts, processes)
    return table
