"""A prompt and a token worker with their sidecars, and a router: processes, and nothing above."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from splitwise_core.tiny_tasks import questions
from tests.support.cluster import Metrics, eventually
from tests.support.ports import free_port

BIN = Path(sys.executable).parent
START_S = 150.0  # importing torch alone takes 20 s on a machine that is busy


class House:
    """One prompt and one token worker with their sidecars, and a router, by their command lines.

    `keys` has a file with capability keys for "router", "prompt" and "token", or for none of them.
    `environment` goes over that of this process; `programs` is where the programs are.
    """

    def __init__(
        self,
        directory: Path,
        model: Path,
        stack: ExitStack,
        keys: Mapping[str, Path],
        environment: Mapping[str, str],
        programs: Path = BIN,
    ) -> None:
        self._directory = directory
        self._model = model
        self._stack = stack
        self._keys = keys
        self._environment = {**os.environ, **environment}
        self._programs = programs
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ports = {
            f"{role}-{name}": free_port()
            for role in ("prompt", "token")
            for name in ("grpc", "status", "kv", "kv-tcp", "kv-status")
        }
        self.router = free_port()

    def start(self, token_sidecar: str | None = None, measured: bool = True) -> None:
        """Starts everything and waits until requests can be placed, and the link is `measured`.

        What would push to the token worker's sidecar pushes to `token_sidecar` instead.
        """
        listed = []
        for role in ("prompt", "token"):
            ports = {name: self.ports[f"{role}-{name}"] for name in ("grpc", "status", "kv")}
            seen_at = f"127.0.0.1:{ports['kv']}"
            if role == "token" and token_sidecar is not None:
                seen_at = token_sidecar
            self._pod(role, ports, seen_at)
            at = f"127.0.0.1:{ports['grpc']}"
            listed.append({"address": at, "pod": role, "pool": role, "role": role})
        endpoints = self._directory / "endpoints.json"
        endpoints.write_text(json.dumps({"workers": listed}))
        self._run(
            "router",
            listen=f"127.0.0.1:{self.router}",
            endpoints=endpoints,
            model=self._model,
            model_name="tiny",
            probe_seconds=3600,
            **self._key("router"),
        )
        eventually(self._ready, START_S, self.logs)
        if measured:
            eventually(self._is_measured, START_S, self.logs)

    def _is_measured(self) -> bool:
        """Whether the link is known: until then its measurement would be damaged too."""
        return self.metric("router", "splitwise_router_links", state="working") == 1

    def _pod(self, role: str, ports: dict[str, int], seen_at: str) -> None:
        sock = self._directory / f"{role}.sock"
        self._run(
            "sidecar",
            socket=sock,
            listen=f"127.0.0.1:{ports['kv']}",
            listen_tcp=f"127.0.0.1:{self.ports[f'{role}-kv-tcp']}",
            transports="tcp",
            status=f"127.0.0.1:{self.ports[f'{role}-kv-status']}",
            role=role,
            pool=role,
            **self._key(role),
        )
        self._run(
            "worker",
            worker_id=role,
            pool=role,
            role=role,
            model=self._model,
            model_name="tiny",
            kv_memory=2**26,
            listen=f"127.0.0.1:{ports['grpc']}",
            status=f"127.0.0.1:{ports['status']}",
            sidecar_socket=sock,
            sidecar_address=seen_at,
        )

    def _key(self, process: str) -> dict[str, Path]:
        return {"capability_key": self._keys[process]} if process in self._keys else {}

    def _run(self, component: str, **options: object) -> None:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        log = self._stack.enter_context((self._directory / "log.txt").open("a"))
        command = [str(self._programs / f"splitwise-{component}"), *flags]
        process = subprocess.Popen(command, stderr=log, env=self._environment)
        self.processes.append(process)
        self._stack.callback(process.wait, 30)
        self._stack.callback(process.kill)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.router}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def logs(self) -> str:
        """What all of them have said."""
        return (self._directory / "log.txt").read_text()

    def metric(self, process: str, name: str, **labels: str) -> float:
        """What a process counts now: "router", "token-status", "token-kv-status" and the like."""
        port = self.router if process == "router" else self.ports[process]
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        return Metrics(text).value(name, **labels)


@contextmanager
def house(
    directory: Path,
    model: Path,
    keys: Mapping[str, Path] | None = None,
    environment: Mapping[str, str] | None = None,
    programs: Path = BIN,
) -> Iterator[House]:
    """A house that is not started yet, and ends with the block."""
    with ExitStack() as stack:
        yield House(directory, model, stack, keys or {}, environment or {}, programs)


async def ask(built: House, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """A lookup over 600 tokens, whose right answer is known, and 18 tokens more."""
    question = questions(3, seed=4, longest=600)[2]
    body = {
        "model": "tiny",
        "prompt": question.prompt,
        "max_tokens": 20,
        "temperature": 0,
        "ignore_eos": True,
    }
    async with httpx.AsyncClient(timeout=60) as client:
        url = f"http://127.0.0.1:{built.router}/v1/completions"
        answer = await client.post(url, json=body, headers=headers)
    if answer.status_code == 200:
        assert answer.json()["choices"][0]["text"].split()[0] == question.answer
    return answer
