"""One container: its process, its probes, its restarts, its end."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitwise_cli.runner.environment import Invocation
from splitwise_cli.runner.probes import passes
from splitwise_cli.runner.process import signal_all, spawn

log = logging.getLogger("splitwise.runner")

BACKOFF_S: Final = (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0)
SETTLED_S: Final = 60.0
"""A container that ran this long starts its back-off anew."""
LOG_BYTES: Final = 8 << 20
STARTUP_POLL_S: Final = 0.1
"""A kubelet probes once a period; on one machine people wait for the start."""
NOT_TO_BE_RETRIED: Final = 2
"""Our processes' exit status for an error that only the reader can fix."""
EXTENSION_S: Final = 2.0
"""What a process gets between SIGTERM and SIGKILL when its preStop has used up the grace."""


@dataclass(slots=True)
class Container:
    """Runs until `stop`. `changed` is called whenever something that status shows has changed."""

    spec: Mapping[str, Any]
    invocation: Invocation
    address: str
    log_file: Path
    grace_s: float
    changed: Callable[[], None]
    pid: int | None = None
    ready: bool = False
    restarts: int = 0
    exit_code: int | None = None  # of the last run
    started: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None
    _stopping: bool = False
    _told: tuple[bool, int | None, int] = (False, None, 0)
    _task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The container's name in its pod."""
        return str(self.spec["name"])

    def start(self) -> None:
        """Starts the process and keeps it running."""
        self._task = asyncio.create_task(self._keep_running())

    async def stop(self, grace_s: float) -> None:
        """preStop, SIGTERM, and SIGKILL when the grace is over. Returns when it is gone."""
        self._stopping = True
        self._show(ready=False)
        await self._terminate(grace_s)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def trim_log(self) -> None:
        """Keeps the last half of a log that has grown too large."""
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES:
            kept = self.log_file.read_bytes()[-LOG_BYTES // 2 :]
            with self.log_file.open("r+b") as file:  # same file: the process goes on appending
                file.truncate()
                file.write(kept)
                file.truncate()

    async def _keep_running(self) -> None:
        failures = 0
        while not self._stopping:
            began = time.monotonic()
            await self._run_once()
            if self._stopping or self.exit_code == NOT_TO_BE_RETRIED:
                return
            failures = 0 if time.monotonic() - began > SETTLED_S else failures + 1
            wait_s = BACKOFF_S[min(max(failures - 1, 0), len(BACKOFF_S) - 1)]
            log.warning("%s ended with %s", self.log_file.stem, self.exit_code)
            await asyncio.sleep(wait_s)
            self.restarts += 1
            self._show(ready=False)

    async def _run_once(self) -> None:
        with self.log_file.open("ab") as output:
            try:
                self._process = await spawn(self.invocation.argv, self.invocation.env, output)
            except OSError as error:
                output.write(f"cannot start {self.invocation.argv[0]}: {error}\n".encode())
                self.exit_code = 127
                return
        self.pid = self._process.pid
        self._show(ready=False)
        probing = asyncio.create_task(self._probe())
        try:
            self.exit_code = await self._process.wait()
        finally:
            probing.cancel()
            signal_all(self._process.pid, signal.SIGKILL)  # what it has started ends with it
            self.pid = None
            self.started.clear()
            self._show(ready=False)

    async def _terminate(self, grace_s: float) -> None:
        """Ends the process that runs now, if one does."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        give_up = time.monotonic() + grace_s
        await self._pre_stop(grace_s)
        signal_all(process.pid, signal.SIGTERM)
        left_s = give_up - time.monotonic()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), left_s if left_s > 0 else EXTENSION_S)
        if process.returncode is None:
            log.warning("%s outlived its grace and is killed", self.log_file.stem)
            signal_all(process.pid, signal.SIGKILL)
            await process.wait()

    async def _probe(self) -> None:
        """Startup first; then readiness and liveness, each at its own pace."""
        if startup := self.spec.get("startupProbe"):
            within_s = startup.get("failureThreshold", 3) * startup.get("periodSeconds", 10)
            give_up = time.monotonic() + within_s
            while not await self._passes(startup):
                if time.monotonic() > give_up:
                    log.warning("%s did not start in time", self.log_file.stem)
                    await self._terminate(self.grace_s)
                    return
                await asyncio.sleep(STARTUP_POLL_S)
        self.started.set()
        async with asyncio.TaskGroup() as probes:
            probes.create_task(self._watch_readiness())
            probes.create_task(self._watch_liveness())

    async def _watch_readiness(self) -> None:
        probe = self.spec.get("readinessProbe")
        if probe is None:
            self._show(ready=True)
            return
        failures = 0
        while True:
            if await self._passes(probe):
                failures = 0
                self._show(ready=True)
            else:
                failures += 1
                if failures >= probe.get("failureThreshold", 3):
                    self._show(ready=False)
            period_s = probe.get("periodSeconds", 10)
            await asyncio.sleep(period_s if self.ready else min(0.2, period_s))

    async def _watch_liveness(self) -> None:
        probe = self.spec.get("livenessProbe")
        failures = 0
        while probe is not None:
            await asyncio.sleep(probe.get("periodSeconds", 10))
            failures = 0 if await self._passes(probe) else failures + 1
            if failures >= probe.get("failureThreshold", 3):
                log.warning("%s no longer answers and is restarted", self.log_file.stem)
                await self._terminate(self.grace_s)
                return

    async def _passes(self, probe: Mapping[str, Any]) -> bool:
        ports = {port["name"]: port["containerPort"] for port in self.spec.get("ports", [])}
        return await passes(probe, self.address, ports, self.invocation)

    async def _pre_stop(self, grace_s: float) -> None:
        hook = self.spec.get("lifecycle", {}).get("preStop")
        if hook is not None and not await self._passes({**hook, "timeoutSeconds": grace_s}):
            log.warning("the preStop hook of %s failed", self.log_file.stem)

    def _show(self, *, ready: bool) -> None:
        """Tells when something that status shows is not as it was told last."""
        self.ready = ready and not self._stopping
        now = (self.ready, self.pid, self.restarts)
        if now != self._told:
            self._told = now
            self.changed()
