"""A Grafana on this machine, given the dashboards and a Prometheus by files."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from monitoring.dashboards import BOARDS
from monitoring.generate import dashboards
from monitoring.programs import stop

PROGRAMS: Final = ("grafana-server", "grafana")
HOME: Final = "/usr/share/grafana"
"""Where its packages install what it serves."""


def program() -> str | None:
    """The server that is installed here, or None."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def provision(directory: Path, prometheus: str) -> None:
    """Writes what Grafana reads as it starts: a data source, a folder, and the dashboards in it."""
    shown = directory / "dashboards"
    source = {"name": "Prometheus", "type": "prometheus", "access": "proxy", "isDefault": True}
    folder = {"name": "splitwise", "folder": "Splitwise", "type": "file"}
    files: dict[str, dict[str, Any]] = {
        "datasources": {"apiVersion": 1, "datasources": [source | {"url": prometheus}]},
        "dashboards": {"apiVersion": 1, "providers": [folder | {"options": {"path": str(shown)}}]},
    }
    for kind, content in files.items():
        place = directory / "provisioning" / kind
        place.mkdir(parents=True, exist_ok=True)
        (place / "splitwise.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    shown.mkdir(exist_ok=True)
    for name, text in dashboards().items():
        (shown / name).write_text(text, "utf-8")


@contextmanager
def grafana(server: str, directory: Path, port: int) -> Iterator[str]:
    """Runs it on what `provision` wrote, for whoever is on this machine; its first dashboard."""
    settings = {
        "GF_PATHS_PROVISIONING": str(directory / "provisioning"),
        "GF_PATHS_DATA": str(directory / "grafana"),
        "GF_PATHS_LOGS": str(directory / "grafana"),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
    }
    command = [server, *(["server"] if server.endswith("grafana") else []), "--homepath", HOME]
    with (directory / "grafana.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | settings, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}/d/{BOARDS[0].uid}"
    finally:
        stop(process)
