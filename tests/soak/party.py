"""One worker process and its sidecar, as the soak's router sees them."""

import asyncio
import json
import os
import signal
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from splitwise_cli.runner.process import die_with
from tests.support.sidecar_process import SidecarProcess

ATTACH_S: Final = 30.0
SETTLED_S: Final = 30.0

Event = dict[str, Any]


class Party:
    """Started, killed, frozen; `hear` gets what the worker says, and that it has died."""

    def __init__(
        self,
        directory: Path,
        name: str,
        transports: list[str],
        hear: Callable[["Party", Event], None],
    ) -> None:
        self.name = name
        self.sidecar = SidecarProcess(directory, name, transports)
        self.is_attached = asyncio.Event()
        self.counted: asyncio.Queue[Event] = asyncio.Queue()
        self._hear = hear
        self._log = directory / f"{name}.worker.log"
        self._worker: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.frozen: set[str] = set()
        self.memory_bytes: list[int] = []
        self.descriptors: list[int] = []

    async def start(self) -> None:
        """Starts both."""
        self.sidecar.start()
        await self.start_worker()

    async def start_worker(self) -> None:
        """Another life for the worker."""
        with self._log.open("ab") as log:
            self._worker = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.soak.worker"),
                *(str(self.sidecar.socket), self.name),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                preexec_fn=partial(die_with, os.getpid()),
            )
        self._reading = asyncio.create_task(self._read(self._worker))

    def tell(self, **order: Any) -> None:
        """One order to the worker."""
        assert self._worker is not None
        assert self._worker.stdin is not None
        self._worker.stdin.write((json.dumps(order) + "\n").encode())

    async def kill_worker(self) -> None:
        """SIGKILL, and another life."""
        assert self._worker is not None
        assert self._reading is not None
        self.frozen.discard("worker")
        if self._worker.returncode is None:
            self._worker.kill()
        await self._reading
        await self.start_worker()

    def kill_sidecar(self) -> None:
        """SIGKILL, and another life."""
        self.frozen.discard("sidecar")
        self.is_attached.clear()
        self.sidecar.kill()
        self.sidecar.start()

    def freeze(self, who: str) -> None:
        """SIGSTOP to the `sidecar` or the `worker`."""
        self.frozen.add(who)
        os.kill(self._pid(who), signal.SIGSTOP)

    def thaw(self, who: str) -> None:
        """SIGCONT, unless it has died meanwhile."""
        if who in self.frozen:
            self.frozen.discard(who)
            os.kill(self._pid(who), signal.SIGCONT)

    async def stop(self) -> None:
        """Ends both."""
        if self._worker is not None and self._reading is not None:
            if self._worker.returncode is None:
                self._worker.kill()
            await self._reading
        if self.sidecar.program.is_running:
            self.sidecar.kill()

    def measure(self) -> None:
        """Takes note of the sidecar's own memory, without the pools, and its descriptors."""
        status = Path(f"/proc/{self.sidecar.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
        self.memory_bytes.append(int(line.split()[1]) << 10)
        self.descriptors.append(len(os.listdir(f"/proc/{self.sidecar.pid}/fd")))

    def mapped_pools(self) -> int:
        """How many workers' pools the sidecar has mapped."""
        return Path(f"/proc/{self.sidecar.pid}/maps").read_text().count("memfd:test-kv")

    def _pid(self, who: str) -> int:
        assert self._worker is not None
        return self.sidecar.pid if who == "sidecar" else self._worker.pid

    async def _read(self, worker: asyncio.subprocess.Process) -> None:
        assert worker.stdout is not None
        while line := await worker.stdout.readline():
            event = json.loads(line)
            if event["event"] == "attached":
                self.is_attached.set()
            elif event["event"] == "counted":
                self.counted.put_nowait(event)
            else:
                if event.get("outcome") == "gone":
                    self.is_attached.clear()
                self._hear(self, event)
        await worker.wait()
        self.is_attached.clear()
        self._hear(self, {"event": "died"})


def early_and_late(samples: list[int]) -> tuple[float, float]:
    """The medians of a run's second tenth, when all is warm, and of its last."""
    tenth = max(1, len(samples) // 10)
    return statistics.median(samples[tenth : 2 * tenth + 1]), statistics.median(samples[-tenth:])
