"""A pod as a kubelet runs it: sidecars first and last, an address of its own, nothing left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.cluster import eventually
from tests.support.pods import OBEDIENT, container, is_gone, is_there, plan, running

ROOT = Path(__file__).parents[2]

SIDECAR = OBEDIENT.replace("say('up')", "time.sleep(0.3); say('up')").replace("'up'", "'kv'")


def with_sidecar(main: str = OBEDIENT, sidecar: str = SIDECAR, **spec: Any) -> Any:
    """A pod of a main container and a native sidecar that takes a moment to start."""
    started = is_there("kv", failures=100)
    return plan(
        [container("main", main, startupProbe=is_there("up", failures=100))],
        [container("kv", sidecar, startupProbe=started)],
        **spec,
    )


async def test_a_sidecar_has_started_before_the_main_container_is(tmp_path: Path) -> None:
    async with running(tmp_path, with_sidecar()) as pod:
        await pod.until(lambda: pod.pod.ready)
        assert pod.when("kv", "kv") < pod.when("main", "up")


async def test_a_sidecar_stops_when_the_main_container_is_gone(tmp_path: Path) -> None:
    slow = OBEDIENT.replace("sys.exit(0)", "time.sleep(0.3); say('gone'); sys.exit(0)")
    async with running(tmp_path, with_sidecar(slow)) as pod:
        await pod.until(lambda: pod.pod.ready)
        await pod.stop()
        assert pod.when("main", "term") < pod.when("main", "gone") < pod.when("kv", "term")
        assert [c.exit_code for c in pod.pod.containers()] == [0, 0]


async def test_a_sidecar_that_does_not_start_keeps_the_main_container_waiting(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, with_sidecar(sidecar="sys.exit(1)")) as pod:
        await pod.until(lambda: pod.container("kv").restarts >= 2)
        assert pod.container("main").pid is None
        assert pod.said("main") == []


async def test_a_sidecar_is_restarted_by_itself(tmp_path: Path) -> None:
    async with running(tmp_path, with_sidecar()) as pod:
        await pod.until(lambda: pod.pod.ready)
        main = pod.container("main").pid
        os.kill(pod.container("kv").pid or 0, signal.SIGKILL)
        await pod.until(lambda: not pod.pod.ready)
        await pod.until(lambda: pod.pod.ready)
        status = pod.pod.status()
        assert status["restarts"] == 1
        assert [c["restarts"] for c in status["containers"]] == [1, 0]
        assert pod.container("main").pid == main


async def test_pods_may_listen_on_the_same_port(tmp_path: Path) -> None:
    listening = "import socket\nserver = socket.create_server((os.environ['IP'], 7001))\n"
    where = {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    main = container(
        "main",
        listening + OBEDIENT,
        env=[where],
        ports=[{"name": "own", "containerPort": 7001}],
        readinessProbe={"tcpSocket": {"port": "own"}, "periodSeconds": 0.1},
    )
    one, two = (plan([main], address=f"127.66.8.{number}") for number in (1, 2))
    async with running(tmp_path / "1", one) as first, running(tmp_path / "2", two) as second:
        await first.until(lambda: first.pod.ready)
        await second.until(lambda: second.pod.ready)


async def test_status_tells_where_metrics_are(tmp_path: Path) -> None:
    ports = [
        {"name": name, "containerPort": port}
        for port, name in enumerate(("grpc", "status", "kv-status", "http"), start=9100)
    ]
    async with running(tmp_path, plan([container("main", ports=ports)])) as pod:
        urls = [f"http://127.66.7.1:{port}/metrics" for port in (9101, 9102, 9103)]
        assert pod.pod.status()["metrics"] == urls


RUNNER = """
import asyncio, json, sys
from pathlib import Path
from tests.cli.test_pods import with_sidecar
from tests.support.pods import running

async def main():
    async with running(Path(sys.argv[1]), with_sidecar()) as pod:
        await pod.until(lambda: pod.pod.ready)
        print(json.dumps([c.pid for c in pod.pod.containers()]), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_a_runner_that_is_killed_takes_its_containers_along(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUNNER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None
        pids = json.loads(runner.stdout.readline())
        assert len(pids) == 2
        assert not any(is_gone(pid) for pid in pids)
        runner.kill()
    eventually(lambda: all(is_gone(pid) for pid in pids), 5, lambda: f"still there: {pids}")
