"""`splitwise up`: runs a SplitwiseCluster as processes on this machine."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from splitwise_cli.preflight import check
from splitwise_cli.runner.state import StateDir, default_state_dir
from splitwise_cli.runner.supervisor import Supervisor
from splitwise_core.errors import UserError
from splitwise_core.logs import configure_at_once
from splitwise_core.manifest import load_cluster
from splitwise_core.spec import SplitwiseCluster

_POLL_S: Final = 0.1


def up(file: Path, port: int | None, detach: bool, state_dir: Path | None, wait_s: float) -> None:
    """Starts the cluster in `file`; returns when it has ended, or with `detach` when it is ready.

    Raises UserError when it cannot start; nothing keeps running then.
    """
    if not wait_s > 0:  # as NaN is not
        fix = "use the seconds within which the cluster must be ready, such as 120"
        raise UserError("invalid-spec", where="--wait", wrong=f"{wait_s:g} is no time", fix=fix)
    cluster = with_port(load_cluster(file), port)
    state = StateDir((state_dir or default_state_dir()).absolute())
    console = Console(highlight=False, stderr=True)
    for notice in notices(cluster):
        console.print(notice)
    if detach:
        _detached(cluster, file, port, state, wait_s, console)
    else:
        _attached(cluster, state, wait_s, console)


def notices(cluster: SplitwiseCluster) -> list[str]:
    """What of the spec is not done on this machine."""
    return [
        f"pool {pool.name}: nobody scales it here, it keeps {pool.seed} (autoscaling.minReplicas); "
        "in Kubernetes the operator or your autoscaler does"
        for pool in cluster.spec.pools
        if pool.autoscaling is not None
    ]


def with_port(cluster: SplitwiseCluster, port: int | None) -> SplitwiseCluster:
    """The cluster with another router port."""
    if port is None:
        return cluster
    if not 0 < port < 65536:
        raise UserError(
            "invalid-spec", where="--port", wrong=f"{port} is no port", fix="use 1 to 65535"
        )
    router = cluster.spec.router.model_copy(update={"port": port})
    return cluster.model_copy(update={"spec": cluster.spec.model_copy(update={"router": router})})


def _attached(cluster: SplitwiseCluster, state: StateDir, wait_s: float, console: Console) -> None:
    configure_at_once("runner")
    with state.held():
        try:
            check(cluster)
            was_ready = asyncio.run(_run(cluster, state, wait_s, console))
        except UserError as error:
            state.write_failure(str(error))
            raise
    if not was_ready:
        raise KeyboardInterrupt


async def _run(cluster: SplitwiseCluster, state: StateDir, wait_s: float, console: Console) -> bool:
    progress = _Progress(console)
    supervisor = Supervisor(cluster, state, lambda: progress.show(supervisor.status()))
    return await supervisor.run(wait_s)


def _detached(
    cluster: SplitwiseCluster,
    file: Path,
    port: int | None,
    state: StateDir,
    wait_s: float,
    console: Console,
) -> None:
    with state.held():  # fails here, in front of the reader, as far as it can be known
        check(cluster)
    signal.signal(signal.SIGTERM, _terminated)
    argv = [sys.executable, "-m", "splitwise_cli.main", "up", "-f", str(file)]
    argv += ["--state-dir", str(state.path), "--wait", str(wait_s)]
    argv += ["--port", str(port)] if port is not None else []
    with state.runner_log.open("wb") as output:
        runner = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=os.environ | {"NO_COLOR": "1"},
        )
    try:
        _follow(runner, state, _Progress(console))
    except BaseException:  # Ctrl-C and SIGTERM too: what is not ready yet does not stay
        runner.terminate()
        runner.wait()
        raise


def _follow(runner: "subprocess.Popen[bytes]", state: StateDir, progress: "_Progress") -> None:
    """Returns when the cluster is ready. Exits with the runner's words when it ends before."""
    while runner.poll() is None:
        status = state.read()
        if status is not None:
            progress.show(status)
            if status["ready"]:
                return
        time.sleep(_POLL_S)
    said = state.failure() or state.runner_log.read_text("utf-8", errors="replace")
    sys.stderr.write(said or "the cluster was stopped before it was ready\n")
    raise SystemExit(2)


def _terminated(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


class _Progress:
    """A line for each pod that becomes ready or not ready, and one for the whole."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ready: dict[str, bool] = {}
        self._started_s = time.monotonic()
        self._whole = False

    def show(self, status: dict[str, Any]) -> None:
        """Prints what has changed since the last call."""
        for pod in status["pods"]:
            before = self._ready.get(pod["name"])
            if pod["ready"] != before:
                self._ready[pod["name"]] = pod["ready"]
                word = (
                    "[green]ready[/]" if pod["ready"] else "starting" if before is None else "down"
                )
                self._console.print(f"  {self._elapsed()}  {pod['name']:<28} {word}")
        if status["ready"] and not self._whole:
            self._console.print(f"  {self._elapsed()}  ready at {status['endpoint']}/v1")
        self._whole = status["ready"]

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._started_s:5.1f} s"
