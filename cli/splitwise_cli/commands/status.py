"""`splitwise status`: what runs, where, and how it is."""

import json
import sys
from pathlib import Path
from typing import Any, Final, Literal

import httpx
from rich.console import Console
from rich.table import Table

from splitwise_cli.runner.state import StateDir, default_state_dir

ROUTER_S: Final = 2.0


def status(output: Literal["table", "json"], state_dir: Path | None) -> None:
    """Prints the status. Raises UserError when no cluster is up."""
    found = StateDir((state_dir or default_state_dir()).absolute()).running()
    endpoint = str(found["endpoint"])
    found["transfer"] = _told(endpoint, "transfer")
    _note_duties(found["pods"], _told(endpoint, "workers") or [])
    if output == "json":
        print(json.dumps(found, indent=2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(_table(found))
    for link in found["transfer"] or ():
        console.print(_line(link))
    console.print(f"{found['endpoint']}/v1 serves [bold]{found['model']['name']}[/]")


def _told(endpoint: str, what: str) -> list[dict[str, Any]] | None:
    """A list that a router keeps: how KV moves between pools, say. None while no router tells."""
    try:
        answer = httpx.get(f"{endpoint}/{what}", timeout=ROUTER_S).raise_for_status()
        entries: list[dict[str, Any]] = answer.json()[what]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        return None
    return entries


def _note_duties(pods: list[dict[str, Any]], workers: list[dict[str, Any]]) -> None:
    """Adds to each pod for how long it has been borrowed, and whether it had better be moved."""
    by_name = {worker["pod"]: worker for worker in workers}
    for pod in pods:
        worker = by_name.get(pod["name"], {})
        pod["borrowed_s"] = worker.get("borrowedSeconds")
        pod["misplaced"] = worker.get("misplaced", False)


def _line(link: dict[str, Any]) -> str:
    """One pair of pools, for people."""
    way = f"KV {link['from']} -> {link['to']}: "
    failing = f", {link['failing']} of {link['pairs']} links fail" if link["failing"] else ""
    if link["transport"] == "none":
        return f"{way}no link works ({link['reason']})"
    speed = f"{link['bytesPerSecond'] / 1e9:.2f} GB/s, {link['latencySeconds'] * 1e3:.1f} ms"
    return f"{way}{link['transport']}, {speed}{failing}"


def _table(status: dict[str, Any]) -> Table:
    table = Table()
    for name in ("pod", "role", "address", "ready", "restarts", "processes"):
        table.add_column(name)
    for pod in status["pods"]:
        processes = ", ".join(f"{c['name']} {c['pid'] or '–'}" for c in pod["containers"])
        ready = "[green]yes[/]" if pod["ready"] else "[red]no[/]"
        restarts = str(pod["restarts"])
        table.add_row(pod["name"], _part(pod), pod["address"], ready, restarts, processes)
    return table


def _part(pod: dict[str, Any]) -> str:
    """The pod's role, and whether it is borrowed from it."""
    if pod["borrowed_s"] is None:
        return str(pod["role"])
    advice = "; move a replica to the other pool" if pod["misplaced"] else ""
    return f"{pod['role']}, borrowed for {pod['borrowed_s']:.0f} s{advice}"
