"""One container: its process, its probes, its restarts, its end."""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitwise_cli.runner.environment import Invocation
from splitwise_cli.runner.probes import passes
from splitwise_cli.runner.process import signal_all, spawn
from splitwise_cli.runner.termination import Ended, termination_message

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


def unless_mistaken(exit_code: int) -> bool:
    """Whether to run again, on a machine whose user waits for the word of what is wrong."""
    return exit_code != NOT_TO_BE_RETRIED


def until_done(exit_code: int) -> bool:
    """Whether to run a step again that has to succeed once."""
    return exit_code != 0


@dataclass(slots=True)
class Container:
    """Runs until `stop`. `changed` is called whenever something that status shows has changed.

    `again` tells from the exit code whether another run follows; before each run `gate` is
    awaited, and what the run leaves in `message_file` is kept.
    """

    spec: Mapping[str, Any]
    invocation: Invocation
    address: str
    log_file: Path
    grace_s: float
    changed: Callable[[], None]
    again: Callable[[int], bool] = unless_mistaken
    gate: Callable[[], Awaitable[None]] | None = None
    message_file: Path | None = None
    pid: int | None = None
    ready: bool = False
    restarts: int = 0
    exit_code: int | None = None  # of the last run
    last: Ended | None = None
    began_s: float | None = None  # seconds since the epoch, while a process runs
    is_backing_off: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)  # no run follows
    _process: asyncio.subprocess.Process | None = None
    _stopping: bool = False
    _told: tuple[object, ...] = ()
    _task: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The container's name in its pod."""
        return str(self.spec["name"])

    @property
    def is_sidecar(self) -> bool:
        """Whether it is an init container that goes on running beside the main containers."""
        return self.spec.get("restartPolicy") == "Always"

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
        self.finished.set()

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
            if self.gate is not None:
                await self.gate()
            began = time.monotonic()
            exit_code = await self._run_once()
            if self._stopping or not self.again(exit_code):
                self.finished.set()
                self._show(ready=False)
                return
            failures = 0 if time.monotonic() - began > SETTLED_S else failures + 1
            wait_s = BACKOFF_S[min(max(failures - 1, 0), len(BACKOFF_S) - 1)]
            log.warning("%s ended with %s", self.log_file.stem, exit_code)
            await self._back_off(wait_s)

    async def _back_off(self, wait_s: float) -> None:
        self.is_backing_off = True
        self._show(ready=False)
        try:
            await asyncio.sleep(wait_s)
        finally:
            self.is_backing_off = False
        self.restarts += 1
        self._show(ready=False)

    async def _run_once(self) -> int:
        """The exit code of one run from start to end; how it ended is `last` afterwards."""
        began_s, log_from = time.time(), self._log_bytes()
        exit_code = 127
        try:
            exit_code = await self._run_process()
        except OSError as error:
            with self.log_file.open("ab") as output:
                output.write(f"cannot start {self.invocation.argv[0]}: {error}\n".encode())
        policy = self.spec.get("terminationMessagePolicy", "File")
        message = termination_message(self.message_file, policy, self.log_file, log_from, exit_code)
        self.exit_code = exit_code
        self.last = Ended(exit_code, began_s, time.time(), message)
        self._show(ready=False)
        return exit_code

    async def _run_process(self) -> int:
        if self.message_file is not None:
            self.message_file.write_bytes(b"")
        with self.log_file.open("ab") as output:
            self._process = await spawn(self.invocation.argv, self.invocation.env, output)
        self.pid, self.began_s = self._process.pid, time.time()
        self._show(ready=False)
        probing = asyncio.create_task(self._probe())
        try:
            return await self._process.wait()
        finally:
            probing.cancel()
            signal_all(self._process.pid, signal.SIGKILL)  # what it has started ends with it
            self.pid = self.began_s = None
            self.started.clear()

    def _log_bytes(self) -> int:
        return self.log_file.stat().st_size if self.log_file.exists() else 0

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
            await asyncio.sleep(startup.get("initialDelaySeconds", 0))
            within_s = startup.get("failureThreshold", 3) * startup.get("periodSeconds", 10)
            give_up = time.monotonic() + within_s
            while not await self._passes(startup):
                if time.monotonic() > give_up:
                    log.warning("%s did not start in time", self.log_file.stem)
                    await self._terminate(self.grace_s)
                    return
                await asyncio.sleep(STARTUP_POLL_S)
        self.started.set()
        self._show(ready=self.ready)
        async with asyncio.TaskGroup() as probes:
            probes.create_task(self._watch_readiness())
            probes.create_task(self._watch_liveness())

    async def _watch_readiness(self) -> None:
        probe = self.spec.get("readinessProbe")
        if probe is None:
            self._show(ready=True)
            return
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        successes = failures = 0
        while True:
            if await self._passes(probe):
                successes, failures = successes + 1, 0
                if successes >= probe.get("successThreshold", 1):
                    self._show(ready=True)
            else:
                successes, failures = 0, failures + 1
                if failures >= probe.get("failureThreshold", 3):
                    self._show(ready=False)
            period_s = probe.get("periodSeconds", 10)
            await asyncio.sleep(period_s if self.ready else min(0.2, period_s))

    async def _watch_liveness(self) -> None:
        probe = self.spec.get("livenessProbe")
        if probe is None:
            return
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        failures = 0
        while failures < probe.get("failureThreshold", 3):
            await asyncio.sleep(probe.get("periodSeconds", 10))
            failures = 0 if await self._passes(probe) else failures + 1
        log.warning("%s no longer answers and is restarted", self.log_file.stem)
        await self._terminate(self.grace_s)

    async def _passes(self, probe: Mapping[str, Any]) -> bool:
        named = (port for port in self.spec.get("ports", []) if "name" in port)
        ports = {port["name"]: port["containerPort"] for port in named}
        return await passes(probe, self.address, ports, self.invocation.beside(self.pid))

    async def _pre_stop(self, grace_s: float) -> None:
        hook = self.spec.get("lifecycle", {}).get("preStop")
        if hook is not None and not await self._passes({**hook, "timeoutSeconds": grace_s}):
            log.warning("the preStop hook of %s failed", self.log_file.stem)

    def _show(self, *, ready: bool) -> None:
        """Tells when something that status shows is not as it was told last."""
        self.ready = ready and not self._stopping
        seen = (self.ready, self.pid, self.restarts, self.last)
        now = (*seen, self.started.is_set(), self.is_backing_off, self.finished.is_set())
        if now != self._told:
            self._told = now
            self.changed()
