"""Runs all pods of a cluster on this machine until it is told to stop."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from splitwise_cli.runner import plan
from splitwise_cli.runner.container import NOT_TO_BE_RETRIED, Container
from splitwise_cli.runner.environment import cpu_millis, make_volumes
from splitwise_cli.runner.gpus import gpus
from splitwise_cli.runner.pod import Pod, grace_of
from splitwise_cli.runner.scraping import targets
from splitwise_cli.runner.secrets import keep
from splitwise_cli.runner.state import StateDir
from splitwise_cli.runner.volumes import volumes_directory
from splitwise_core.errors import UserError
from splitwise_core.labels import ROUTER
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator.kv_secret import secret_name
from splitwise_operator.render import render

log = logging.getLogger("splitwise.runner")

HOUSEKEEPING_S: Final = 30.0
SLACK_S: Final = 10.0
"""What is over a pod's grace: sidecars after it, and a machine that is slow."""
CRASHES_BEFORE_GIVING_UP: Final = 4
"""Restarts of one container before the cluster was ready for the first time."""
_LOG_TAIL: Final = 12


class Supervisor:
    """A cluster on this machine. `changed` hears of every change that status shows."""

    def __init__(
        self, cluster: SplitwiseCluster, state: StateDir, changed: Callable[[], None] | None = None
    ) -> None:
        self._cluster = cluster
        self._state = state
        self._tell = changed or (lambda: None)
        self._pods: list[Pod] = []
        self._over = asyncio.Event()
        self._was_ready = asyncio.Event()
        self._failure: UserError | None = None

    async def run(self, ready_within_s: float) -> bool:
        """Runs until SIGTERM or SIGINT; whether the cluster has ever been ready.

        Raises UserError when it cannot start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._over.set)
        with volumes_directory(self._state.volumes) as volumes:
            try:
                self._create(volumes)
                for pod in self._pods:
                    pod.start()
                watch = asyncio.create_task(self._until_ready(ready_within_s))
                chores = asyncio.create_task(self._housekeeping())
                await self._over.wait()
                watch.cancel()
                chores.cancel()
            finally:
                await self._stop()
        if self._failure is not None:
            raise self._failure
        return self._was_ready.is_set()

    def status(self) -> dict[str, Any]:
        """As `splitwise status -o json` shows it."""
        spec = self._cluster.spec
        return {
            "cluster": self._cluster.metadata.name,
            "runner": os.getpid(),
            "endpoint": f"http://127.0.0.1:{spec.router.port}",
            "model": {"name": spec.model.name, "path": spec.model.path},
            "stopsWithinSeconds": self._stops_within_s(),
            "ready": bool(self._pods) and all(pod.ready for pod in self._pods),
            "pods": [pod.status() for pod in self._pods],
        }

    def _stops_within_s(self) -> float:
        """Routers stop before workers, and each has all of its pod's grace."""
        graces = [grace_of(pod.plan) for pod in self._pods]
        return 2 * max(graces, default=0.0) + SLACK_S

    def _create(self, volumes: Path) -> None:
        keep(self._state.kv_secret, self._cluster, datetime.now(UTC))
        secrets = {secret_name(self._cluster): self._state.kv_secret}
        objects = render(self._cluster)
        planned = plan.pods(objects, gpus())
        self._state.write_targets(targets(self._cluster.metadata, planned))
        files = plan.config_maps(objects, planned)
        workers = sum(pod.role != ROUTER for pod in planned)
        for old in self._state.logs.glob("*.log"):
            if old != self._state.runner_log:
                old.unlink()
        for number, pod in enumerate(planned):
            directory = volumes / str(number)
            own = make_volumes(pod.spec.get("volumes", []), directory, files, secrets)
            self._pods.append(
                Pod.create(pod, own, cpu_millis(workers), self._state.logs, self._changed)
            )
        self._changed()

    def _changed(self) -> None:
        self._state.write(self.status())
        self._tell()
        if self._pods and all(pod.ready for pod in self._pods):
            self._was_ready.set()

    async def _until_ready(self, within_s: float) -> None:
        """Ends the run when a container cannot start, or not in time."""
        waiting = asyncio.create_task(self._was_ready.wait())
        give_up = asyncio.get_running_loop().time() + within_s
        while not waiting.done():
            for pod in self._pods:
                for container in pod.containers():
                    if _has_failed(container):
                        self._fail(pod, container)
                        return
            if asyncio.get_running_loop().time() > give_up:
                self._fail_late(within_s)
                return
            await asyncio.wait([waiting], timeout=0.1)

    def _fail(self, pod: Pod, container: Container) -> None:
        self._failure = UserError(
            "start-failed",
            where=f"{pod.plan.name}/{container.name}",
            wrong=f"ended with status {container.exit_code}:\n{_tail(container.log_file)}",
            fix=f"see above; the whole log is {container.log_file}",
        )
        self._over.set()

    def _fail_late(self, within_s: float) -> None:
        late = [pod.plan.name for pod in self._pods if not pod.ready]
        self._failure = UserError(
            "start-failed",
            where=self._cluster.metadata.name,
            wrong=f"not ready within {within_s:.0f} s: {', '.join(late)}",
            fix=f"read the logs in {self._state.logs}, or allow more time with --wait",
        )
        self._over.set()

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._renew()
            for pod in self._pods:
                for container in pod.containers():
                    container.trim_log()

    def _renew(self) -> None:
        """Sidecars take up new certificates by themselves."""
        try:
            if keep(self._state.kv_secret, self._cluster, datetime.now(UTC)):
                log.info("certificates renewed")
        except UserError as error:  # the old ones last for weeks: it is tried again
            log.warning("certificates not renewed: %s", error.wrong)

    async def _stop(self) -> None:
        """The router first, so that what is in flight can end on workers that still run."""
        routers = [pod for pod in self._pods if pod.plan.role == ROUTER]
        workers = [pod for pod in self._pods if pod.plan.role != ROUTER]
        for group in (routers, workers):
            await asyncio.gather(*(pod.stop() for pod in group))


def _has_failed(container: Container) -> bool:
    if container.exit_code is None:
        return False
    return (
        container.exit_code == NOT_TO_BE_RETRIED or container.restarts >= CRASHES_BEFORE_GIVING_UP
    )


def _tail(path: Path) -> str:
    lines = path.read_text("utf-8", errors="replace").splitlines()[-_LOG_TAIL:]
    return "\n".join(f"    {line}" for line in lines)
