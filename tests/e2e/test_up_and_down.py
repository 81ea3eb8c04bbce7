"""A cluster's life through the command line: up, asked about, stopped, killed; nothing stays."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.cluster import SPLITWISE, Cluster, eventually, splitwise, write_cluster
from tests.support.pods import is_gone, processes_of
from tests.support.ports import free_port

pytestmark = pytest.mark.e2e

SMALL = [{"name": "all", "role": "mixed", "kvMemory": "64Mi"}]


class Desk:
    """A small cluster's file and state directory, and TMPDIR of its own."""

    def __init__(self, directory: Path, model: Path) -> None:
        self.file = write_cluster(directory, model, pools=SMALL)
        self.state = directory / "state"
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.port = free_port()
        self.cluster = Cluster(self.state)

    def up(self, *arguments: str) -> list[str]:
        """The command that starts it."""
        port = ["--port", str(self.port)]
        return [
            SPLITWISE,
            "up",
            "-f",
            str(self.file),
            "--state-dir",
            str(self.state),
            *port,
            *arguments,
        ]

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Starts it; the command may go on."""
        environment = os.environ | {"TMPDIR": str(self.temporary)}
        return subprocess.Popen(
            self.up(*arguments), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip

    def starting(self) -> bool:
        """Whether containers run already."""
        return (self.state / "status.json").exists() and len(self.pids()) > 1

    def pids(self) -> list[int]:
        """All processes of the cluster, the runner's first."""
        status: dict[str, Any] = json.loads((self.state / "status.json").read_text())
        containers = [c["pid"] for pod in status["pods"] for c in pod["containers"] if c["pid"]]
        return [status["runner"], *containers]

    def is_empty(self) -> bool:
        """Whether nothing runs, listens or lies around for it."""
        with socket.socket() as probe:
            taken = probe.connect_ex(("127.0.0.1", self.port)) == 0
        left = list(self.temporary.iterdir())
        return not (taken or left or processes_of(self.file.parent))


@pytest.fixture
def desk(tmp_path: Path, tiny_model: Path) -> Iterator[Desk]:
    """A desk; whatever runs at the end is stopped."""
    desk = Desk(tmp_path, tiny_model)
    yield desk
    splitwise("down", "--state-dir", str(desk.state))


def test_up_status_down(desk: Desk) -> None:
    with desk.start("--detach") as up:
        _, said = up.communicate(timeout=60)
    assert up.returncode == 0, said
    assert f"ready at http://127.0.0.1:{desk.port}/v1" in said

    status = desk.cluster.status()
    assert status["endpoint"] == f"http://127.0.0.1:{desk.port}"
    assert status["model"]["name"] == "tiny"
    assert [(p["name"], p["role"], p["ready"]) for p in status["pods"]] == [
        ("test-all-0", "mixed", True),
        ("test-router-0", "router", True),
    ]
    assert [c["name"] for c in status["pods"][0]["containers"]] == ["kv", "worker"]
    for url in (url for pod in status["pods"] for url in pod["metrics"]):
        assert httpx.get(url).status_code == 200
    table = splitwise("status", "--state-dir", str(desk.state))
    assert "test-all-0" in table.stdout

    again = subprocess.run(desk.up("--detach"), capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "a cluster is already up" in again.stderr
    pods = desk.cluster.pods()
    assert all(pod["ready"] and not pod["restarts"] for pod in pods), (
        f"{pods}\n{desk.cluster.logs()}"
    )

    pids = desk.pids()
    done = splitwise("down", "--state-dir", str(desk.state))
    assert (done.returncode, done.stderr) == (0, "")
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert desk.is_empty()
    assert splitwise("down", "--state-dir", str(desk.state)).returncode == 2


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["attached", "detached"])
@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, {130}, id="Ctrl-C"),
        pytest.param(signal.SIGTERM, {130, 143}, id="SIGTERM"),
    ],
)
def test_a_start_that_is_broken_off_leaves_nothing(
    desk: Desk, detach: list[str], number: int, code: set[int]
) -> None:
    with desk.start(*detach) as up:
        eventually(desk.starting, 30, lambda: "nothing started")
        up.send_signal(number)
        _, said = up.communicate(timeout=40)
    assert up.returncode in code, said
    assert "Traceback" not in said
    assert desk.is_empty()


def test_a_cluster_that_is_not_ready_in_time_ends(desk: Desk) -> None:
    with desk.start("--detach", "--wait", "0.5") as up:
        _, said = up.communicate(timeout=40)
    assert up.returncode == 2
    assert "not ready within" in said
    assert "--wait" in said
    assert desk.is_empty()


def test_a_killed_runner_takes_its_cluster_along_and_the_next_one_cleans_up(desk: Desk) -> None:
    with desk.start("--detach") as up:
        up.communicate(timeout=60)
    pids = desk.pids()
    left = desk.state / "volumes"
    assert left.is_symlink()
    os.kill(pids[0], signal.SIGKILL)
    eventually(lambda: all(is_gone(pid) for pid in pids), 5, lambda: f"still there: {pids}")
    assert splitwise("status", "--state-dir", str(desk.state)).returncode == 2

    with desk.start("--detach") as up:
        _, said = up.communicate(timeout=60)
    assert up.returncode == 0, said
    assert list(desk.temporary.iterdir()) == [left.readlink()]
    splitwise("down", "--state-dir", str(desk.state))
    assert desk.is_empty()


def test_ctrl_c_ends_a_cluster_that_is_ready(desk: Desk) -> None:
    with desk.start() as up:
        eventually(lambda: httpx_ready(desk.port), 60, desk.cluster.logs)
        eventually(lambda: desk.cluster.status()["ready"], 30, desk.cluster.logs)
        began_s = time.monotonic()
        up.send_signal(signal.SIGINT)
        _, said = up.communicate(timeout=40)
    assert up.returncode == 0, said
    assert time.monotonic() - began_s < 10
    assert desk.is_empty()


def httpx_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def test_other_commands_beside_a_cluster_that_starts_and_runs(desk: Desk) -> None:
    beside = ["--state-dir", str(desk.state)]
    with desk.start("--detach") as up:
        while up.poll() is None:
            done = splitwise("status", "-o", "json", *beside)
            assert done.returncode in (0, 2), done.stderr
            assert "Traceback" not in done.stderr
        _, said = up.communicate()
    assert up.returncode == 0, said
    told = splitwise("chat", "-m", "1 2 3 4", "--max-tokens", "3", *beside)
    assert (told.returncode, told.stdout.split()) == (0, ["5", "6", "7"]), told.stderr
    refused = splitwise("chat", "-m", "1", "--max-tokens", "0", *beside)
    assert refused.returncode == 2
    assert "max_tokens" in refused.stderr
