"""A Kubernetes API server of the tests' own: etcd and kube-apiserver, as real processes."""

import json
import os
import secrets
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.ports import free_port

START_S: Final = 60.0
STOP_S: Final = 30.0
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running API server, and the kubectl that is its administrator."""

    kubeconfig: Path
    kubectl_program: Path

    def kubectl(
        self, *arguments: str, objects: list[dict[str, Any]] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs kubectl; `objects` are its standard input."""
        environment = os.environ | {
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(self.kubeconfig.parent / "kubectl"),
        }
        return subprocess.run(
            [str(self.kubectl_program), *arguments],
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


@contextmanager
def control_plane(programs: Path, directory: Path) -> Iterator[ControlPlane]:
    """Runs one in `directory`; everything it holds is gone with it."""
    token = secrets.token_hex(16)
    etcd, api = f"http://{HOST}:{free_port()}", free_port()
    (directory / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
    (directory / "signing.pem").write_bytes(_signing_key())
    with ExitStack() as stack:
        stack.enter_context(_running(directory, _etcd(programs, directory, etcd)))
        server = stack.enter_context(_running(directory, _api(programs, directory, etcd, api)))
        certificate = directory / "certificates" / "apiserver.crt"
        url = f"https://{HOST}:{api}"
        _wait_until_ready(url, token, certificate, server, directory)
        kubeconfig = directory / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(url, token, certificate)))
        yield ControlPlane(kubeconfig, programs / "kubectl")


def _etcd(programs: Path, directory: Path, url: str) -> list[str]:
    peer = f"http://{HOST}:{free_port()}"
    return [
        str(programs / "etcd"),
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]


def _api(programs: Path, directory: Path, etcd: str, port: int) -> list[str]:
    key = directory / "signing.pem"
    return [
        str(programs / "kube-apiserver"),
        f"--etcd-servers={etcd}",
        f"--bind-address={HOST}",
        f"--secure-port={port}",
        f"--cert-dir={directory / 'certificates'}",
        f"--token-auth-file={directory / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--endpoint-reconciler-type=none",
    ]


def _signing_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )


@contextmanager
def _running(directory: Path, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    log = directory / f"{Path(command[0]).name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(
    url: str, token: str, certificate: Path, server: subprocess.Popen[bytes], directory: Path
) -> None:
    """Returns once it answers requests. Raises RuntimeError with the end of its log."""
    headers = {"Authorization": f"Bearer {token}"}
    until = time.monotonic() + START_S
    while time.monotonic() < until and server.poll() is None:
        if certificate.exists():
            try:
                trust = ssl.create_default_context(cafile=str(certificate))
                answer = httpx.get(f"{url}/readyz", headers=headers, verify=trust)
                if answer.status_code == 200:
                    return
            except httpx.TransportError:
                pass
        time.sleep(0.1)
    log = (directory / "kube-apiserver.log").read_text(errors="replace")
    raise RuntimeError(f"the API server is not ready:\n{log[-4000:]}")


def _kubeconfig(url: str, token: str, certificate: Path) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "admin"}}],
        "clusters": [
            {
                "name": "tests",
                "cluster": {"server": url, "certificate-authority": str(certificate)},
            }
        ],
        "users": [{"name": "admin", "user": {"token": token}}],
    }
