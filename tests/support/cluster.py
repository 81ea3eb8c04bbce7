"""A whole cluster of real processes, started and watched as a user would: through `splitwise`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

SPLITWISE = str(Path(sys.executable).parent / "splitwise")
READY_WITHIN_S = 90.0


def splitwise(
    *arguments: str, timeout_s: float = READY_WITHIN_S
) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user would."""
    return subprocess.run(
        [SPLITWISE, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def write_cluster(directory: Path, model: Path, **spec: Any) -> Path:
    """A cluster file with one prompt and two token workers, unless `spec` says otherwise.

    Each pool keeps to its phase: what is computed where is no matter of the machine's load.
    """
    pools = [
        {"name": "prompt", "role": "prompt", "replicas": 1, "kvMemory": "256Mi"},
        {"name": "token", "role": "token", "replicas": 2, "kvMemory": "256Mi"},
    ]
    document = {
        "apiVersion": "splitwise.dev/v1alpha1",
        "kind": "SplitwiseCluster",
        "metadata": {"name": "test"},
        "spec": {
            "model": {"name": "tiny", "path": str(model)},
            "pools": pools,
            "scheduling": {"borrowing": False},
            "router": {"maxQueueSeconds": 60},  # a machine that is slow turns nobody away
        }
        | spec,
    }
    file = directory / "cluster.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster, known by its state directory."""

    state_dir: Path

    def status(self) -> dict[str, Any]:
        """What `splitwise status -o json` says."""
        done = splitwise("status", "-o", "json", "--state-dir", str(self.state_dir))
        assert done.returncode == 0, done.stderr
        status: dict[str, Any] = json.loads(done.stdout)
        return status

    @property
    def url(self) -> str:
        """The router's address."""
        return str(self.status()["endpoint"]).rstrip("/")

    def pods(self, role: str | None = None) -> list[dict[str, Any]]:
        """The pods of a role, or all."""
        return [pod for pod in self.status()["pods"] if role in (None, pod["role"])]

    def kill(self, pod: str, container: str) -> int:
        """kill -9 of one container's process; returns the pid it had."""
        found = next(p for p in self.pods() if p["name"] == pod)
        pid = int(next(c["pid"] for c in found["containers"] if c["name"] == container))
        os.kill(pid, signal.SIGKILL)
        return pid

    def metrics(self, pod: Mapping[str, Any]) -> "Metrics":
        """What all containers of a pod count now."""
        return Metrics("\n".join(httpx.get(url, timeout=10).text for url in pod["metrics"]))

    def logs(self) -> str:
        """Every container's log, for the message of a failed test."""
        files = sorted(self.state_dir.rglob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text()[-4000:]}" for file in files)


class Metrics:
    """One reading of Prometheus metrics."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def value(self, name: str, **labels: str) -> float:
        """The sum over all series of `name` that carry `labels`."""
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


@contextmanager
def under_load(url: str, rate: int) -> Iterator[None]:
    """Short requests, as many as keep coming."""
    sizes = ["--requests", "4000", "--prompt-tokens", "64", "--output-tokens", "16"]
    quiet = subprocess.DEVNULL
    command = [SPLITWISE, "bench", "--url", url, "--rate", str(rate), *sizes]
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as sending:
        try:
            yield
        finally:
            sending.kill()


def eventually(holds: Callable[[], bool], within_s: float, message: Callable[[], str]) -> None:
    """Waits until `holds()`; fails with `message()` when it does not within the time."""
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up, message()
        time.sleep(0.1)


def all_blocks_are_free(cluster: Cluster, within_s: float = 15.0) -> None:
    """Asserts that no worker holds a KV block and no sidecar a lease, soon."""

    def held() -> dict[str, float]:
        found = {}
        for pod in cluster.pods():
            if pod["role"] == "router":
                continue
            metrics = cluster.metrics(pod)
            states = ("used", "reserved", "sending")
            blocks = sum(metrics.value("splitwise_kv_blocks", state=state) for state in states)
            assert blocks or metrics.value("splitwise_kv_blocks", state="free") > 0
            found[pod["name"]] = blocks + metrics.value("splitwise_kv_leases")
        return found

    eventually(
        lambda: not any(held().values()),
        within_s,
        lambda: f"still held: {held()}\n{cluster.logs()}",
    )


@contextmanager
def running(file: Path, state_dir: Path, *arguments: str) -> Iterator[Cluster]:
    """A cluster that is Ready, and stopped afterwards."""
    up = ["up", "-f", str(file), "--detach", "--state-dir", str(state_dir), *arguments]
    done = splitwise(*up)
    cluster = Cluster(state_dir)
    try:
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{cluster.logs()}"
        yield cluster
    finally:
        splitwise("down", "--state-dir", str(state_dir))
