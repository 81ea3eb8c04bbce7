"""A real router process in front of echo workers, over real sockets."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import grpc
import httpx

from splitwise_core.rpc.channel import OPTIONS
from splitwise_core.rpc.worker_pb2 import Load
from splitwise_core.rpc.worker_pb2_grpc import WorkerStub
from tests.support.ports import free_port

ROUTER = Path(sys.executable).with_name("splitwise-router")
WORKER = Path(__file__).with_name("echo_worker.py")
START_S = 30.0


@dataclass(eq=False)
class Worker:
    """An echo worker process; `knobs` are its command line, `model` says whose tokenizer it has."""

    name: str
    role: str
    knobs: dict[str, object] = field(default_factory=dict)
    model: Path | None = None
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    def start(self, model: Path | None = None) -> None:
        """Starts it and waits until it listens; `model` is needed once, if it has none."""
        self.model = self.model or model
        assert self.model is not None
        tokenizer = sha256((self.model / "tokenizer.json").read_bytes()).hexdigest()
        knobs = [f"--tokenizer={tokenizer}"]
        knobs += [f"--{key.replace('_', '-')}={value}" for key, value in self.knobs.items()]
        identity = [f"--listen=127.0.0.1:{self.port}", f"--worker-id={self.name}"]
        command = [sys.executable, str(WORKER), *identity, f"--role={self.role}", *knobs]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def load(self) -> Load:
        """What the worker says of itself to somebody who connects now."""
        with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=OPTIONS) as channel:
            call = WorkerStub(channel).Session(iter(()), timeout=10)
            load: Load = next(call).load
            return load


@dataclass(eq=False)
class Router:
    """A router process."""

    directory: Path
    options: dict[str, object] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)  # over that of this process
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def endpoints(self) -> Path:
        return self.directory / "endpoints.json"

    @property
    def log_file(self) -> Path:
        return self.directory / "router.log"

    def list_workers(self, workers: list[Worker]) -> None:
        """Replaces the list of workers, as a whole."""
        listed = [
            {"address": f"127.0.0.1:{w.port}", "pod": w.name, "pool": w.role, "role": w.role}
            for w in workers
        ]
        self.write_endpoints({"workers": listed})

    def write_endpoints(self, document: object) -> None:
        """Replaces what the router is told of its workers."""
        draft = self.endpoints.with_suffix(".new")
        draft.write_text(json.dumps(document))
        os.replace(draft, self.endpoints)

    def command(self, model: Path) -> list[str]:
        options = {
            "listen": f"127.0.0.1:{self.port}",
            "endpoints": self.endpoints,
            "model": model,
            "model-name": "echo",
            **{key.replace("_", "-"): value for key, value in self.options.items()},
        }
        return [str(ROUTER), *(f"--{key}={value}" for key, value in options.items())]

    def start(self, model: Path) -> None:
        with self.log_file.open("w") as log:
            environment = {**os.environ, **self.environment}
            self.process = subprocess.Popen(
                self.command(model), stderr=log, text=True, env=environment
            )

    def readiness(self) -> tuple[int, str]:
        """Status and text of /readyz; 0 while nobody listens."""
        try:
            answer = httpx.get(f"{self.url}/readyz", timeout=5)
        except httpx.TransportError:
            return 0, ""
        return answer.status_code, answer.text

    def wait_for_readiness(self, status: int = 200) -> str:
        """Waits until /readyz answers `status`; its text."""
        give_up = time.monotonic() + START_S
        while True:
            found, text = self.readiness()
            if found == status:
                return text
            assert time.monotonic() < give_up, f"/readyz says {found} {text}, not {status}"
            time.sleep(0.02)

    def stop(self) -> tuple[int, str]:
        """SIGTERM; the exit code and what was logged."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        """The same of a router that was told to end: a second signal might find it half gone."""
        assert self.process is not None
        return self.process.wait(timeout=START_S), self.log_file.read_text()


@dataclass
class Stack:
    """A router and its workers."""

    router: Router
    workers: dict[str, Worker]
    model: Path

    @property
    def url(self) -> str:
        return self.router.url

    def metric(self, name: str) -> float:
        """The sum over all series of the router whose line begins with `name`."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@contextmanager
def stack(
    directory: Path,
    model: Path,
    workers: list[Worker],
    is_ready: bool | None = None,
    environment: dict[str, str] | None = None,
    **options: object,
) -> Iterator[Stack]:
    """Starts everything, waits until it is ready (with workers), and ends everything."""
    router = Router(directory, options, environment or {})
    try:
        for worker in workers:
            worker.start(model)
        router.list_workers(workers)
        router.start(model)
        router.wait_for_readiness(200 if (bool(workers) if is_ready is None else is_ready) else 503)
        yield Stack(router, {worker.name: worker for worker in workers}, model)
    finally:
        for worker in workers:
            if worker.process is not None and worker.process.poll() is None:
                worker.kill()
        if router.process is not None:
            router.process.kill()
            router.process.wait()
