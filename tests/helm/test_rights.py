"""The real operator runs as the chart starts it, with no more rights than the chart gives it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import pytest
import yaml

from tests.helm.release import CHART, ROOT, Helm, container
from tests.support.control_plane import ControlPlane
from tests.support.ports import free_port

pytestmark = pytest.mark.kubernetes

QUICKSTART: Final = ROOT / "manifests" / "samples" / "quickstart.yaml"
WITHOUT_CRDS: Final = ("--set", "crds.install=false")
WITHIN_S: Final = 30.0
ALL: Final = {"deployments": 3, "splitwisepools": 2, "services": 3, "rolebindings": 1}
"""How many objects of some kinds the quickstart is."""
OURS: Final = "app.kubernetes.io/managed-by=splitwise"


@pytest.fixture(scope="module")
def definitions(cluster: ControlPlane) -> None:
    """The CRDs, as the chart has them."""
    files = CHART / "files" / "crds"
    assert cluster.kubectl("apply", "--server-side", "--filename", str(files)).returncode == 0


@contextmanager
def running(
    cluster: ControlPlane, arguments: list[str], account: tuple[str, str], directory: Path
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The operator with a ServiceAccount's token, and the address of its status page."""
    address = f"127.0.0.1:{free_port()}"
    changed = {"--listen=0.0.0.0:8080": f"--listen={address}"}
    words = [changed.get(word, word).replace("$(POD_NAME)", "operator-0") for word in arguments]
    kubeconfig = cluster.kubeconfig_for(*account, directory)
    with (directory / "operator.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "splitwise_operator.main", *words],
            env=os.environ | {"KUBECONFIG": str(kubeconfig)},
            stdout=log,
            stderr=log,
        )
        try:
            yield process, f"http://{address}"
        finally:
            process.kill()
            process.wait()


def wait_for(what: str, holds: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + WITHIN_S
    while not holds():
        assert time.monotonic() < until, f"{what}:\n{log.read_text()[-4000:]}"
        time.sleep(0.2)


def is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    ("release", "home", "watched", "where"),
    [
        pytest.param("splitwise", "splitwise-system", "[]", "anywhere", id="everywhere"),
        pytest.param("blue", "blue", '["team-blue"]', "team-blue", id="in one namespace"),
    ],
)
def test_a_cluster_is_run_and_no_request_is_forbidden(
    installer: Helm,
    cluster: ControlPlane,
    definitions: None,
    tmp_path: Path,
    release: str,
    home: str,
    watched: str,
    where: str,
) -> None:
    assert cluster.kubectl("create", "namespace", where).returncode == 0
    place = ("--namespace", home, f"--set-json=watchNamespaces={watched}")
    installer.do("install", release, str(CHART), *place, "--create-namespace", *WITHOUT_CRDS)
    manifest = installer.do("get", "manifest", release, "--namespace", home)
    arguments = container([item for item in yaml.safe_load_all(manifest) if item])["args"]
    account = "splitwise-operator" if release == "splitwise" else f"{release}-splitwise-operator"
    log = tmp_path / "operator.log"
    with running(cluster, arguments, (home, account), tmp_path) as (process, url):
        wait_for("ready", lambda: is_up(url), log)
        cluster.kubectl("apply", "--namespace", where, "--filename", str(QUICKSTART))
        wait_for("all is made", lambda: all_made(cluster, where), log)
        wait_for("status", lambda: has_status(cluster, where), log)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0, log.read_text()
    installer.do("uninstall", release, "--namespace", home)
    asked = cluster.requests_of(f"system:serviceaccount:{home}:{account}")
    assert asked
    assert not [event for event in asked if event.get("responseStatus", {}).get("code") == 403]


def all_made(cluster: ControlPlane, where: str) -> bool:
    return all(
        len(cluster.get(kind, "--namespace", where, f"--selector={OURS}")["items"]) == count
        for kind, count in ALL.items()
    )


def has_status(cluster: ControlPlane, where: str) -> bool:
    found = cluster.get("splitwisecluster", "quickstart", "--namespace", where)
    return bool(found.get("status", {}).get("conditions"))
