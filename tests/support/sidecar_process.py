"""A sidecar as a process of its own: to be killed, frozen, starved and started again."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.support.background import Background
from tests.support.kv_worker import KvWorker
from tests.support.ports import free_port

START_S: Final = 30.0
PAGE_S: Final = 5.0


class SidecarProcess:
    """It keeps its addresses over all its lives."""

    def __init__(
        self,
        directory: Path,
        name: str,
        transports: Sequence[str],
        host: str = "127.0.0.1",
        more: Sequence[str] = (),
    ) -> None:
        """`more` are further options."""
        self.name = name
        self.socket = directory / f"{name}.sock"
        self.address = f"{host}:{free_port(host)}"
        self.tcp_port = free_port(host)
        self.grpc_port = free_port(host)
        self._status = f"127.0.0.1:{free_port()}"
        self._more = more
        self.transports = transports
        self.program = Background(self._command(transports), directory / f"{name}.log")

    def _command(self, transports: Sequence[str]) -> list[str]:
        host = self.address.rpartition(":")[0]
        options = {
            "socket": self.socket,
            "listen": self.address,
            "listen-tcp": f"{host}:{self.tcp_port}",
            "listen-grpc": f"{host}:{self.grpc_port}",
            "status": self._status,
            "role": "mixed",
            "pool": self.name,
            "transports": ",".join(transports),
        }
        program = str(Path(sys.executable).parent / "splitwise-sidecar")
        return [
            program,
            *(f"--{option}={value}" for option, value in options.items()),
            *self._more,
        ]

    def will_use(self, transports: Sequence[str]) -> None:
        """In its next life it moves KV by these."""
        self.transports = transports
        self.program.command = self._command(transports)

    @property
    def metrics_url(self) -> str:
        """Where it is scraped."""
        return f"http://{self._status}/metrics"

    @property
    def port(self) -> int:
        """Of its control calls."""
        return int(self.address.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self.program.process is not None
        return self.program.process.pid

    def start(self) -> None:
        """Starts it; `attach` waits until it listens."""
        self.program.start()

    def kill(self) -> None:
        """SIGKILL: it has no chance to say anything."""
        self.program.kill()

    def freeze(self) -> None:
        """It hangs, with all its connections open."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if no time had passed."""
        os.kill(self.pid, signal.SIGCONT)

    def limit(self, what: int, amount: int) -> None:
        """From now on it may have no more than this of a resource (`resource.RLIMIT_...`)."""
        _, most = resource.prlimit(self.pid, what)
        resource.prlimit(self.pid, what, (amount, most))

    def unlimit(self, what: int) -> None:
        """It may have as much as this machine allows."""
        _, most = resource.prlimit(self.pid, what)
        resource.prlimit(self.pid, what, (most, most))

    async def attach(self, worker: KvWorker) -> None:
        """Attaches the worker, once the sidecar listens and an earlier worker's end is over."""
        async with asyncio.timeout(START_S):
            while True:
                try:
                    if (await worker.attach(self.socket)).epoch:
                        return
                except OSError:  # it does not listen yet, or has hung up
                    assert self.program.is_running, self.program.tail()
                worker.hang_up()
                await asyncio.sleep(0.05)

    async def value(self, name: str, **labels: str) -> float:
        """The sum over a metric's series that carry `labels`, as its page shows them."""
        page = await asyncio.to_thread(self._page)
        return sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def _page(self) -> str:
        with urlopen(self.metrics_url, timeout=PAGE_S) as answer:
            return str(answer.read().decode())
