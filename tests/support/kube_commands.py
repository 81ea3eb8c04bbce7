"""How the programs of a test's control plane are started: their flags, users and files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST: Final = "127.0.0.1"
USERS: Final = ("admin", "kubelet", "kube-controller-manager", "kube-scheduler")
"""All may do everything; each has a name of its own, which the audit log tells."""

_AUDIT_POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a control plane keeps its files, and where it listens."""

    programs: Path
    directory: Path
    etcd_port: int
    peer_port: int
    api_port: int

    @property
    def url(self) -> str:
        """The API server's."""
        return f"https://{HOST}:{self.api_port}"

    @property
    def certificate(self) -> Path:
        """The API server's own, which it makes when it starts for the first time."""
        return self.directory / "certificates" / "apiserver.crt"

    @property
    def audit_log(self) -> Path:
        """A line of JSON for each request that was answered."""
        return self.directory / "audit.jsonl"

    def kubeconfig(self, user: str) -> Path:
        """One of USERS'."""
        return self.directory / f"{user}.kubeconfig"

    def program(self, name: str) -> str:
        """The path of one program."""
        return str(self.programs / name)


def prepare(place: Place, tokens: dict[str, str]) -> None:
    """Writes the files that the programs read; `tokens` has one for each of USERS."""
    lines = [f"{tokens[user]},{user},{user},system:masters\n" for user in USERS]
    (place.directory / "tokens.csv").write_text("".join(lines))
    (place.directory / "signing.pem").write_bytes(_signing_key())
    (place.directory / "audit.yaml").write_text(yaml.safe_dump(_AUDIT_POLICY))
    for user in USERS:
        write_kubeconfig(place, place.kubeconfig(user), user, tokens[user])


def write_kubeconfig(
    place: Place, file: Path, user: str, token: str, namespace: str = "default"
) -> None:
    """A kubeconfig for who has `token`."""
    server = {"server": place.url, "certificate-authority": str(place.certificate)}
    context = {"cluster": "tests", "user": user, "namespace": namespace}
    document: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "tests",
        "contexts": [{"name": "tests", "context": context}],
        "clusters": [{"name": "tests", "cluster": server}],
        "users": [{"name": user, "user": {"token": token}}],
    }
    file.write_text(yaml.safe_dump(document))


def etcd(place: Place) -> list[str]:
    """Keeps nothing safe from a power cut, and is fast."""
    peer = f"http://{HOST}:{place.peer_port}"
    return [
        place.program("etcd"),
        f"--data-dir={place.directory / 'etcd'}",
        f"--listen-client-urls={_etcd_url(place)}",
        f"--advertise-client-urls={_etcd_url(place)}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]


def api_server(place: Place) -> list[str]:
    """With the default admission: PodSecurity, ResourceQuota and the others."""
    key = place.directory / "signing.pem"
    return [
        place.program("kube-apiserver"),
        f"--etcd-servers={_etcd_url(place)}",
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",  # else it looks for a network, and there may be none
        f"--secure-port={place.api_port}",
        f"--cert-dir={place.certificate.parent}",
        f"--token-auth-file={place.directory / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--endpoint-reconciler-type=none",
        f"--audit-policy-file={place.directory / 'audit.yaml'}",
        f"--audit-log-path={place.audit_log}",
    ]


def controller_manager(place: Place) -> list[str]:
    """It does not hold itself back to 20 requests a second, as where it shares an API server."""
    return [
        place.program("kube-controller-manager"),
        f"--kubeconfig={place.kubeconfig('kube-controller-manager')}",
        "--leader-elect=false",
        "--secure-port=0",
        "--use-service-account-credentials=false",
        f"--service-account-private-key-file={place.directory / 'signing.pem'}",
        f"--root-ca-file={place.certificate}",
        "--node-monitor-period=1s",
        "--pvclaimbinder-sync-period=2s",
        "--horizontal-pod-autoscaler-sync-period=2s",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
    ]


def scheduler(place: Place) -> list[str]:
    """The default scheduler, alone."""
    return [
        place.program("kube-scheduler"),
        f"--kubeconfig={place.kubeconfig('kube-scheduler')}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def _etcd_url(place: Place) -> str:
    return f"http://{HOST}:{place.etcd_port}"


def _signing_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
