"""A Kubernetes control plane of the tests' own: etcd, kube-apiserver and others, as processes."""

import json
import os
import secrets
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from tests.support import kube_commands
from tests.support.background import Background, running
from tests.support.ports import free_port

START_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running API server, and the kubectl that is its administrator."""

    place: kube_commands.Place
    api_server: Background
    controllers: Sequence[Background] = ()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.place.kubeconfig("admin")

    @property
    def audit_log(self) -> Path:
        """A line of JSON for each request that was answered; see `requests_of`."""
        return self.place.audit_log

    def kubectl(
        self, *arguments: str, objects: list[dict[str, Any]] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; `objects` are its standard input."""
        environment = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.place.directory / "kubectl"),
        }
        return subprocess.run(
            [self.place.program("kubectl"), *arguments],
            input=None if objects is None else yaml.safe_dump_all(objects),
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get -o json` prints."""
        done = self.kubectl("get", *arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def http(self) -> httpx.Client:
        """HTTP to the API server as its administrator; to be closed."""
        return _http(self.place)

    def read(self, path: str, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """What the API server has at a path, as the administrator: quicker than kubectl."""
        with self.http() as api:
            answer = api.get(path, params=dict(query or {}))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def kubeconfig_for(self, namespace: str, service_account: str, directory: Path) -> Path:
        """A kubeconfig of a ServiceAccount, with a token that is good for an hour."""
        made = self.kubectl("create", "token", service_account, f"--namespace={namespace}")
        assert made.returncode == 0, made.stderr
        file = directory / f"{namespace}.{service_account}.kubeconfig"
        token = made.stdout.strip()
        kube_commands.write_kubeconfig(self.place, file, service_account, token, namespace)
        return file

    def requests_of(self, user: str) -> list[dict[str, Any]]:
        """The audit log's events of a user, such as `system:serviceaccount:NAMESPACE:NAME`."""
        lines = self.audit_log.read_text().splitlines()
        # A request that is being answered may have written half of the last line.
        events = [json.loads(line) for line in lines if line.endswith("}")]
        return [event for event in events if event["user"].get("username") == user]

    def stop_api_server(self) -> None:
        """Ends the API server at once; what it has stored stays."""
        self.api_server.kill()  # asked to end, it would wait for watches, half a minute

    def start_api_server(self) -> None:
        """Starts it again on the same port. Returns when it answers; raises RuntimeError.

        The controllers begin anew, as those of a real cluster do: they have lost their leases.
        """
        self.api_server.start()
        _wait_until_ready(self.place, self.api_server)
        for controller in self.controllers:
            controller.kill()
            controller.start()


@contextmanager
def control_plane(
    programs: Path, directory: Path, with_controllers: bool = False
) -> Iterator[ControlPlane]:
    """Runs one in `directory`; everything it holds is gone with it.

    With controllers pods are made, scheduled and waited for; without them objects only stay.
    """
    place = kube_commands.Place(programs, directory, free_port(), free_port(), free_port())
    kube_commands.prepare(place, {user: secrets.token_hex(16) for user in kube_commands.USERS})
    with ExitStack() as stack:

        def start(command: list[str]) -> Background:
            log = directory / f"{Path(command[0]).name}.log"
            return stack.enter_context(running(Background(command, log)))

        start(kube_commands.etcd(place))
        api_server = start(kube_commands.api_server(place))
        _wait_until_ready(place, api_server)
        commands = (kube_commands.controller_manager(place), kube_commands.scheduler(place))
        controllers = [start(command) for command in commands] if with_controllers else []
        yield ControlPlane(place, api_server, controllers)


def _wait_until_ready(place: kube_commands.Place, server: Background) -> None:
    """Returns once it answers requests. Raises RuntimeError with the end of its log."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.is_running:
        if place.certificate.exists():
            try:
                with _http(place) as api:
                    if api.get("/readyz").status_code == 200:
                        return
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    raise RuntimeError(f"the API server is not ready:\n{server.tail()}")


def _http(place: kube_commands.Place) -> httpx.Client:
    return httpx.Client(
        base_url=place.url,
        verify=_trust(place.certificate),
        headers={"Authorization": f"Bearer {_token(place.kubeconfig('admin'))}"},
        timeout=30,
    )


@lru_cache
def _token(kubeconfig: Path) -> str:
    return str(yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"])


@lru_cache
def _trust(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))
