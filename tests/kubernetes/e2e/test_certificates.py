"""The Secret of a cluster: whose it is, who gets what of it, and that renewal restarts nothing."""

import base64
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from splitwise_core.rpc.tls import Files, credentials
from splitwise_operator.certificates import CERTIFICATE_LIFE
from splitwise_operator.kinds import SECRET
from splitwise_operator.kv_secret import FILES, files_of
from tests.support.certificates import bundle
from tests.support.operated import Operated, quickstart

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

EXPIRY = "splitwise_kv_certificate_expiry_timestamp_seconds"
REVIEWED_S = 120.0
"""The operator looks once a minute at what it does not watch; a kubelet takes its time too."""


def test_a_cluster_has_certificates_of_its_own(operated: Operated, tiny_model: Path) -> None:
    operated.apply(quickstart(tiny_model))
    operated.wait_until_complete()
    operated.answers(2)
    it_is_the_clusters_and_works(operated)
    pods_get_what_they_need(operated)
    its_renewal_restarts_nothing(operated)
    it_comes_back_when_it_is_deleted(operated)
    operated.kubectl("delete", "swc", "quickstart")
    operated.machine.soon(lambda: not secrets(operated), operated.namespace)


def secrets(operated: Operated) -> list[dict[str, Any]]:
    """Those that bear the cluster's label."""
    return operated.objects([SECRET])


def secret(operated: Operated) -> dict[str, bytes]:
    return files_of(operated.machine.get("secret", "quickstart-kv", "-n", operated.namespace))


def server_name(operated: Operated) -> str:
    return f"quickstart.{operated.namespace}.kv.splitwise.dev"


def expires_s(files: Mapping[str, bytes], name: str) -> float:
    """When a certificate that works does; else this raises."""
    return credentials(Files(files["ca.crt"], files["tls.crt"], files["tls.key"]), name).expires_s


def it_is_the_clusters_and_works(operated: Operated) -> None:
    (own,) = secrets(operated)
    (owner,) = own["metadata"]["ownerReferences"]
    assert owner["uid"] == operated.get()["metadata"]["uid"]
    assert set(own["data"]) == set(FILES)
    assert expires_s(secret(operated), server_name(operated)) > 0


def pods_get_what_they_need(operated: Operated) -> None:
    for pod in operated.pods():
        (volume,) = [v for v in pod["spec"]["volumes"] if v["name"] == "kv"]
        got = {item["key"] for item in volume["secret"]["items"]}
        is_router = pod["metadata"]["labels"]["splitwise.dev/role"] == "router"
        certificates = set() if is_router else {"ca.crt", "tls.crt", "tls.key"}
        assert got == {"capability.key"} | certificates


def its_renewal_restarts_nothing(operated: Operated) -> None:
    before = {pod["metadata"]["name"]: starts(pod) for pod in operated.pods()}
    now = secret(operated)
    old = bundle(server_name(operated), by=now, age=0.7 * CERTIFICATE_LIFE)
    put(operated, {name: old[name] for name in ("tls.crt", "tls.key")})
    operated.kubectl("annotate", "swc", "quickstart", "looked=at")  # sooner than within a minute

    def is_renewed() -> bool:
        return secret(operated)["tls.crt"] not in (old["tls.crt"], now["tls.crt"])

    operated.machine.soon(is_renewed, operated.namespace, REVIEWED_S)
    after = secret(operated)
    assert (after["ca.crt"], after["ca.key"]) == (now["ca.crt"], now["ca.key"])
    assert after["capability.key"] == now["capability.key"]
    until_taken(operated)
    operated.answers(2)
    assert {pod["metadata"]["name"]: starts(pod) for pod in operated.pods()} == before


def starts(pod: Mapping[str, Any]) -> list[int]:
    own = pod["status"]
    containers = [*own.get("initContainerStatuses", []), *own["containerStatuses"]]
    return [container["restartCount"] for container in containers]


def put(operated: Operated, files: Mapping[str, bytes], name: str = "quickstart-kv") -> None:
    data = {key: base64.b64encode(content).decode() for key, content in files.items()}
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
    operated.machine.apply(made, namespace=operated.namespace)


def until_taken(operated: Operated) -> None:
    """Every sidecar uses the certificate that the Secret has now."""
    wanted = expires_s(secret(operated), server_name(operated))

    def is_taken() -> bool:
        workers = [*operated.pods("prompt"), *operated.pods("token")]
        return all(shown(pod["status"]["podIP"]) == wanted for pod in workers)

    operated.machine.soon(is_taken, operated.namespace, REVIEWED_S)


def shown(address: str) -> float:
    page = httpx.get(f"http://{address}:9102/metrics", timeout=5).text
    families = text_string_to_metric_families(page)
    return next(s.value for family in families for s in family.samples if s.name == EXPIRY)


def it_comes_back_when_it_is_deleted(operated: Operated) -> None:
    operated.kubectl("delete", "secret", "quickstart-kv")
    operated.machine.soon(lambda: len(secrets(operated)) == 1, operated.namespace, REVIEWED_S)
    it_is_the_clusters_and_works(operated)
    until_taken(operated)
    operated.answers(2)


def test_the_certificates_of_a_user_take_their_place(operated: Operated, tiny_model: Path) -> None:
    tls = {"mode": "Secret", "secretName": "theirs", "serverName": "kv.example.com"}
    operated.apply(quickstart(tiny_model, transfer={"tls": tls}))
    operated.wait("Progressing", "CertificateUnusable", "there is no such Secret")
    put(operated, dict(bundle("other.example.com")), "theirs")
    operated.wait("Progressing", "CertificateUnusable", "Hostname mismatch")
    put(operated, dict(bundle("kv.example.com", age=timedelta(days=1))), "theirs")
    operated.wait_until_complete()
    operated.answers(2)
    assert set(secret(operated)) == {"capability.key"}
