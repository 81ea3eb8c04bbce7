"""Clusters of equal cores: each worker computes in one thread, and has a core where it can.

Routers, sidecars and the load's own process go where there is room, in each of the set-ups alike.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from psutil import Process

from bench.cluster.model import MAX_LENGTH
from tests.support.ports import free_port

SPLITWISE: Final = str(Path(sys.executable).parent / "splitwise")
KV_BYTES: Final = 256 << 20  # 32 sequences of MAX_LENGTH
OVERFLOW_TOKENS: Final = 256
"""About two prompts: what waits behind more goes to the mixed pool, where there is one."""

PATIENT_S: Final = 600.0
"""A queue in which nobody is turned away: all that is sent is measured."""

DISAGGREGATED, AGGREGATED, MIXED = "disaggregated", "aggregated", "mixed"
CONDITIONAL = "conditional"


@dataclass(frozen=True, slots=True)
class Setup:
    """Workers of each role, and what of `scheduling` is not as it is by default; `is_logged`: the
    router logs each placement as JSON."""

    workers: Mapping[str, int]
    scheduling: Mapping[str, Any]
    is_logged: bool = False


def setups(cores: int) -> dict[str, Setup]:
    """Each set-up with `cores` of them; two cores carry a third worker in the mixed one.

    With two cores the mixed pool's worker has none of its own: it computes where one is idle.
    """
    assert cores >= 2, "each phase needs a core"
    rest = max(2, cores - 1)
    two_pools = {"prompt": cores // 2, "token": cores - cores // 2}
    three_pools = {"prompt": rest // 2, "token": rest - rest // 2, "mixed": 1}
    return {
        DISAGGREGATED: Setup(two_pools, {"borrowing": False}),
        AGGREGATED: Setup({"mixed": cores}, {}),
        MIXED: Setup(three_pools, {"borrowing": True}),
        CONDITIONAL: Setup(two_pools, {"disaggregation": "Auto"}),
    }


@dataclass(frozen=True, slots=True)
class Running:
    """A cluster that is ready."""

    url: str
    status: Mapping[str, Any]

    def components(self) -> dict[str, list[int]]:
        """The processes of its pods, by what they are: `router`, `prompt worker` and their like."""
        found: dict[str, list[int]] = {}
        for role, container in self._containers():
            name = " ".join(dict.fromkeys([role, container["name"]]))
            found.setdefault(name, []).append(container["pid"])
        return found

    def processes(self) -> list[Process]:
        """Every process of its pods."""
        return [Process(container["pid"]) for _, container in self._containers()]

    def workers(self) -> list[Process]:
        """The processes that compute."""
        return [
            Process(container["pid"])
            for _, container in self._containers()
            if container["name"] == "worker"
        ]

    def _containers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Each container, behind the role of its pod."""
        for pod in self.status["pods"]:
            for container in pod["containers"]:
                yield pod["role"], container

    def router_metrics(self) -> list[str]:
        """Where the routers' metrics are."""
        return [u for pod in self.status["pods"] if pod["role"] == "router" for u in pod["metrics"]]

    def worker_metrics(self) -> list[str]:
        """Where those of workers and their sidecars are."""
        return [u for pod in self.status["pods"] if pod["role"] != "router" for u in pod["metrics"]]


@contextmanager
def running(
    setup: Setup,
    model: Path,
    directory: Path,
    cores: int,
    max_queue_s: float = PATIENT_S,
    max_tbt_s: float | None = None,
) -> Iterator[Running]:
    """A cluster of these workers, ready, its workers on cores of their own; stopped at the end."""
    file, state = directory / "cluster.json", directory / "state"
    file.write_text(json.dumps(_document(setup, model, max_queue_s, max_tbt_s)))
    where = ["--state-dir", str(state)]
    up = [SPLITWISE, "up", "-f", str(file), "--detach", "--port", str(free_port()), *where]
    started = subprocess.run(up, capture_output=True, text=True, check=False)
    if started.returncode:
        raise SystemExit(started.stderr)
    try:
        told = [SPLITWISE, "status", "-o", "json", *where]
        status = json.loads(subprocess.run(told, capture_output=True, check=True).stdout)
        _pin(status, cores)
        yield Running(status["endpoint"], status)
    finally:
        subprocess.run([SPLITWISE, "down", *where], check=True, stdout=subprocess.DEVNULL)


def _document(
    setup: Setup, model: Path, max_queue_s: float, max_tbt_s: float | None
) -> dict[str, Any]:
    """The cluster file. JSON is YAML."""
    return {
        "apiVersion": "splitwise.dev/v1alpha1",
        "kind": "SplitwiseCluster",
        "metadata": {"name": "bench"},
        "spec": {
            "model": {"name": "bench", "path": str(model.absolute()), "maxLength": MAX_LENGTH},
            "scheduling": {"overflowTokens": OVERFLOW_TOKENS, **setup.scheduling},
            "router": {
                "maxQueueSeconds": max_queue_s,
                "requestLog": "placements" if setup.is_logged else "off",
            },
            "monitoring": {"logFormat": "json" if setup.is_logged else "text"},
            "pools": [
                {
                    "name": role,
                    "role": role,
                    "replicas": count,
                    "kvMemory": str(KV_BYTES),
                    "maxTbtSeconds": max_tbt_s,
                    "resources": {"cpu": "1"},
                }
                for role, count in setup.workers.items()
            ],
        },
    }


def _pin(status: Mapping[str, Any], cores: int) -> None:
    """Gives each worker a core, in the pods' order; those beyond the cores stay free to move."""
    own = sorted(os.sched_getaffinity(0))[:cores]
    workers = [pod for pod in status["pods"] if pod["role"] != "router"]
    workers.sort(key=lambda pod: pod["role"] == "mixed")  # it is the mixed one that may move
    for core, pod in zip(own, workers, strict=False):
        (pid,) = (c["pid"] for c in pod["containers"] if c["name"] == "worker")
        for thread in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
