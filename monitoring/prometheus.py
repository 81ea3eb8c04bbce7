"""A real Prometheus on this machine: started, asked, and stopped."""

import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from monitoring.programs import stop

PROGRAM: Final = "prometheus"
NEEDS: Final = "there is no prometheus on PATH: on Debian and Ubuntu, `apt install prometheus`"
READY_WITHIN_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value at one moment."""

    labels: dict[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that answers at `url`."""

    url: str

    def ask(self, expr: str, at_s: float | None = None) -> list[Sample]:
        """What an expression is now, or was at that time (seconds since 1970).

        A scalar is a sample without labels. Raises ValueError with Prometheus' words when it does
        not understand.
        """
        moment = {} if at_s is None else {"time": at_s}
        data = self._get("query", {"query": expr, **moment})
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(one["metric"], float(one["value"][1])) for one in data["result"]]

    def number(self, expr: str, at_s: float | None = None) -> float:
        """The value of an expression that has one. Raises LookupError when it has none or more."""
        found = self.ask(expr, at_s)
        if len(found) != 1:
            raise LookupError(f"{len(found)} values, where one was expected: {expr}")
        return found[0].value

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped, with its labels and its health."""
        found: list[dict[str, Any]] = self._get("targets", {"state": "active"})["activeTargets"]
        return found

    def _get(self, what: str, parameters: dict[str, Any]) -> dict[str, Any]:
        answer = httpx.get(f"{self.url}/api/v1/{what}", params=parameters, timeout=30).json()
        if answer["status"] != "success":
            raise ValueError(f"{answer.get('error')}: {parameters}")
        data: dict[str, Any] = answer["data"]
        return data


def scraping(targets: Path, interval_s: float, rules: Sequence[Path] = ()) -> dict[str, Any]:
    """A configuration: the targets in a file that `splitwise up` writes, and files of rules."""
    interval = f"{round(interval_s * 1000)}ms"
    return {
        "global": {
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "evaluation_interval": interval,
        },
        "rule_files": [str(file) for file in rules],
        "scrape_configs": [
            {
                "job_name": "splitwise",
                "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "5s"}],
            }
        ],
    }


@contextmanager
def prometheus(configuration: dict[str, Any], directory: Path, listen: str) -> Iterator[Prometheus]:
    """One that is ready, with its data and its log in `directory`, and stopped afterwards.

    Raises FileNotFoundError where there is none, and RuntimeError with its words where it ends.
    """
    if (program := shutil.which(PROGRAM)) is None:
        raise FileNotFoundError(NEEDS)
    file, log = directory / "prometheus.yml", directory / "prometheus.log"
    file.write_text(yaml.safe_dump(configuration, sort_keys=False), "utf-8")
    flags = [f"--config.file={file}", f"--storage.tsdb.path={directory / 'data'}"]
    flags += [f"--web.listen-address={listen}", "--log.level=warn"]
    with log.open("wb") as output:
        process = subprocess.Popen([program, *flags], stdout=output, stderr=output, cwd=directory)
    try:
        made = Prometheus(f"http://{listen}")
        _until_ready(made.url, process, log)
        yield made
    finally:
        stop(process)


def _until_ready(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    give_up = time.monotonic() + READY_WITHIN_S
    while process.poll() is None and time.monotonic() < give_up:
        try:
            if httpx.get(f"{url}/-/ready", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"prometheus is not ready:\n{log.read_text('utf-8', errors='replace')}")
