"""Pods of small Python programs, run by the process runner as it runs ours."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from splitwise_cli.runner.container import Container
from splitwise_cli.runner.environment import make_volumes
from splitwise_cli.runner.plan import PodPlan
from splitwise_cli.runner.pod import Pod

WITHIN_S = 10.0

SAY = "import sys, time\ndef say(*words):\n    print(time.monotonic(), *words, flush=True)\n"
"""Gives a program `say`: words on a line of the container's log, with the time they were said."""

TOUCH = "import os, signal\ndef touch(name):\n    open('/run/pod/' + name, 'w').close()\n"
"""Gives a program `touch`: an empty file in the pod's volume, for probes to find."""

FOREVER = "signal.pause()"

OBEDIENT = """
def end(*_):
    say('term')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
say('up')
touch('up')
signal.pause()
"""
"""Says when it is up and when it is told to end; see `is_there('up')`."""

STUBBORN = """
signal.signal(signal.SIGTERM, lambda *_: say('term'))
touch('up')
while True:
    signal.pause()
"""
"""Says that it was told to end, and does not."""


def program(code: str) -> list[str]:
    """The command of a container that runs `code`, started as fast as Python can."""
    return [sys.executable, "-S", "-c", SAY + TOUCH + code]


def container(name: str, code: str = FOREVER, **more: Any) -> dict[str, Any]:
    """A container as in a pod's spec; the pod's volume is at /run/pod."""
    mounts = [{"name": "run", "mountPath": "/run/pod"}]
    return {"name": name, "command": program(code), "volumeMounts": mounts, **more}


def is_there(name: str, period_s: float = 0.1, failures: int = 1) -> dict[str, Any]:
    """A probe for a file in the pod's volume."""
    command = ["test", "-e", f"/run/pod/{name}"]
    return {
        "exec": {"command": command},
        "periodSeconds": period_s,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def plan(
    containers: Sequence[Mapping[str, Any]],
    sidecars: Sequence[Mapping[str, Any]] = (),
    address: str = "127.66.7.1",
    **spec: Any,
) -> PodPlan:
    """A pod named `pod`."""
    whole = {
        "initContainers": [{**sidecar, "restartPolicy": "Always"} for sidecar in sidecars],
        "containers": list(containers),
        "volumes": [{"name": "run", "emptyDir": {}}],
        **spec,
    }
    return PodPlan("pod", "pool", "mixed", address, {"app": "test"}, whole)


@dataclass(slots=True)
class Running:
    """A started pod, and a way to wait for what it does."""

    pod: Pod
    volumes: Mapping[str, Path]
    changed: asyncio.Event

    def container(self, name: str) -> Container:
        """One of its containers."""
        return next(found for found in self.pod.containers() if found.name == name)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until `holds()`, which is asked again after every change of the pod's status."""
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                self.changed.clear()
                await self.changed.wait()

    async def stop(self) -> None:
        """Stops the pod, as `splitwise down` does."""
        async with asyncio.timeout(WITHIN_S):
            await self.pod.stop()

    def file(self, name: str) -> Path:
        """A file in the pod's volume."""
        return self.volumes["run"] / name

    def said(self, name: str) -> list[str]:
        """The lines of a container's log, without their times."""
        return [line.partition(" ")[2] for line in self._lines(name)]

    def when(self, name: str, words: str) -> float:
        """The monotonic time at which a container said something for the first time."""
        return self.times(name, words)[0]

    def times(self, name: str, words: str) -> list[float]:
        """The monotonic times at which a container said something."""
        parts = (line.partition(" ") for line in self._lines(name))
        return [float(time) for time, _, said in parts if said == words]

    def _lines(self, name: str) -> list[str]:
        file = self.container(name).log_file
        return file.read_text().splitlines() if file.exists() else []


@asynccontextmanager
async def running(directory: Path, planned: PodPlan) -> AsyncIterator[Running]:
    """The pod, started; stopped at the end unless that has happened."""
    volumes = make_volumes(planned.spec["volumes"], directory / "volumes", {}, {})
    changed = asyncio.Event()
    pod = Pod.create(planned, volumes, 500, directory, changed.set)
    pod.start()
    try:
        yield Running(pod, volumes, changed)
    finally:
        await pod.stop()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def processes_of(directory: Path) -> list[str]:
    """The command lines of all running processes that speak of `directory`."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        is_own = process.pid == os.getpid()
        if any(str(directory) in word for word in words) and not is_own:
            found.append(" ".join(words))
    return found
