"""The `splitwise-worker` process: how it starts, serves, loses its sidecar, and ends."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import grpc
import pytest

from splitwise_core.metric import Component
from splitwise_core.rpc import worker_pb2
from splitwise_core.rpc.channel import OPTIONS
from splitwise_core.rpc.worker_pb2_grpc import WorkerStub
from splitwise_core.telemetry import METRICS
from splitwise_worker.model.decoder import Decoder
from tests.support.ports import free_port
from tests.worker.support import LENGTH, LENGTH_REACHED, greedy, prompt, request

BIN = Path(sys.executable).parent
WITHIN_S = 60.0


class Worker:
    """A worker's process, and its sidecar's."""

    def __init__(self, directory: Path, model: Path) -> None:
        self.directory = directory
        self.model = model
        self.port, self.page, self.kv, self.kv_page = (free_port() for _ in range(4))
        self.processes: list[subprocess.Popen[bytes]] = []

    def command(self, **options: object) -> list[str]:
        """The command line, with `options` instead of what is usual."""
        usual = {
            "worker_id": "w0",
            "pool": "p",
            "role": "mixed",
            "model": self.model,
            "model_name": "small",
            "kv_memory": 64 << 20,
            "max_sequences": 4,
            "listen": f"127.0.0.1:{self.port}",
            "status": f"127.0.0.1:{self.page}",
            "sidecar_socket": self.directory / "kv.sock",
            "sidecar_address": f"127.0.0.1:{self.kv}",
        }
        pairs = (usual | options).items()
        arguments = [f"--{name.replace('_', '-')}={value}" for name, value in pairs]
        return [str(BIN / "splitwise-worker"), *arguments]

    def spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Starts a process whose log is kept."""
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(command, stderr=log, start_new_session=True)
        self.processes.append(process)
        return process

    def start(self) -> subprocess.Popen[bytes]:
        return self.spawn(self.command())

    def start_sidecar(self) -> subprocess.Popen[bytes]:
        options = [f"--socket={self.directory / 'kv.sock'}", f"--listen=127.0.0.1:{self.kv}"]
        options += [f"--status=127.0.0.1:{self.kv_page}", "--role=mixed", "--pool=p"]
        return self.spawn([str(BIN / "splitwise-sidecar"), *options])

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page; 0 while nobody listens."""
        try:
            with urlopen(f"http://127.0.0.1:{self.page}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except (URLError, ConnectionError):
            return 0, ""

    def until_ready(self, status: int, why: str) -> None:
        """Returns when /readyz says this."""
        self.until(lambda: self.get("/readyz") == (status, f"{why}\n"))

    def until(self, holds: Callable[[], bool]) -> None:
        give_up = time.monotonic() + WITHIN_S
        while not holds():
            assert time.monotonic() < give_up, (self.directory / "log").read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """Nothing that was started here is left."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def worker(tmp_path: Path, checkpoint: Path) -> Iterator[Worker]:
    made = Worker(tmp_path, checkpoint)
    yield made
    made.stop()


@pytest.fixture
def session(worker: Worker) -> Iterator["Session"]:
    opened = Session(worker)
    yield opened
    opened.close()


class Session:
    """A router's stream, opened by the first word."""

    def __init__(self, worker: Worker) -> None:
        self._queue: SimpleQueue[worker_pb2.ToWorker | None] = SimpleQueue()
        self._channel = grpc.insecure_channel(f"127.0.0.1:{worker.port}", options=OPTIONS)
        self._stub: Any = WorkerStub(self._channel)
        self._call: Any = None

    def ask(self, number: int, tokens: list[int], transfer: str = "", **asked: Any) -> None:
        message = worker_pb2.Prefill(request=request(number, tokens, deadline_s=4e9, **asked))
        if transfer:
            peer = worker_pb2.Transfer(transfer_id=transfer, peer="127.0.0.1:1")
            message.transfer.CopyFrom(peer)
        self._queue.put(worker_pb2.ToWorker(prefill=message))
        if self._call is None:
            self._call = self._stub.Session(iter(self._queue.get, None), wait_for_ready=True)

    def answer(self, number: int) -> tuple[list[int], worker_pb2.Update]:
        """All tokens of this sequence, and its last update."""
        tokens = []
        for message in self._call:
            for update in message.updates:
                if update.sequence == number:
                    tokens += update.tokens
                    if update.finish:
                        return tokens, update
        raise AssertionError("the worker ended the session")

    def first_word(self) -> None:
        """Reads until some token has come."""
        next(m for m in self._call if any(update.tokens for update in m.updates))

    def close(self) -> None:
        self._queue.put(None)
        self._channel.close()


def test_a_worker_outlives_its_parent_and_its_sidecars(
    worker: Worker, session: Session, decoder: Decoder
) -> None:
    parent = worker.spawn(["sh", "-c", '"$@" & wait', "sh", *worker.command()])
    worker.until_ready(503, "no sidecar is attached")
    parent.kill()
    parent.wait()
    sidecar = worker.start_sidecar()
    worker.until_ready(200, "ok")
    session.ask(1, prompt(20), max_tokens=9)
    assert session.answer(1)[0] == greedy(decoder, prompt(20), 9)

    sidecar.kill()
    worker.until_ready(503, "no sidecar is attached")
    session.ask(2, prompt(20), max_tokens=9)
    assert session.answer(2)[1].finish == LENGTH_REACHED, "what needs no sidecar is served"

    worker.start_sidecar()
    worker.until_ready(200, "ok")
    session.ask(3, prompt(20), transfer="t")
    assert session.answer(3)[1].detail, "the new sidecar's word: nobody listens at that peer"
    assert worker.get("/healthz") == (200, "ok\n")
    text = worker.get("/metrics")[1]
    assert 'splitwise_kv_blocks{pool="p",role="mixed",state="free"} 8.0' in text
    for metric in METRICS:
        if metric.component is Component.WORKER:
            assert f"# TYPE {metric.name.removesuffix('_total')}" in text


def test_a_door_that_peers_cannot_find_keeps_a_worker_from_work(worker: Worker) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    worker.spawn(worker.command(sidecar_address=nowhere))
    worker.start_sidecar()
    worker.until(lambda: "KV probe failed: peer_lost" in worker.get("/readyz")[1])
    status, why = worker.get("/readyz")
    assert status == 503
    assert nowhere in why


def test_sigterm_lets_what_runs_end_before_the_process_does(
    worker: Worker, session: Session
) -> None:
    process = worker.start()
    session.ask(1, prompt(4), max_tokens=LENGTH - 4)
    session.first_word()
    process.send_signal(signal.SIGTERM)
    assert session.answer(1)[1].finish == LENGTH_REACHED
    assert process.wait(WITHIN_S) == 0
    log = (worker.directory / "log").read_text()
    assert "sequences_cut=0" in log
    assert "level=error" not in log


def test_a_missing_model_ends_the_process_with_2_and_says_what_to_do(worker: Worker) -> None:
    command = worker.command(model=worker.directory / "nowhere")
    done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert done.returncode == 2
    assert f"{worker.directory / 'nowhere'}: there is no such directory" in done.stderr
    assert "fix:" in done.stderr
