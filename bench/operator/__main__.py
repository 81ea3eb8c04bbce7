"""`python -m bench.operator`: reaction to an edit, and many clusters at once, on a real API server.

etcd and API server run beside the operator on the same cores, once with controller manager and
scheduler too; there are no nodes, so pods are made and wait. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.support.control_plane import ControlPlane, control_plane
from tests.support.kube_programs import NEEDS, programs
from tests.support.manifests import changed
from tests.support.ports import free_port

CRDS: Final = Path(__file__).parents[2] / "crds"
OPERATOR: Final = str(Path(sys.executable).parent / "splitwise-operator")
SETTLED_S: Final = 5.0
"""Without a write for so long there will be none."""
GIVE_UP_S: Final = 300.0
POLL_S: Final = 1.0
"""The figure's resolution; to ask more often would take a good part of the machine."""
API: Final = "/apis/splitwise.dev/v1alpha1/namespaces/default/splitwiseclusters"
MERGE: Final = {"Content-Type": "application/merge-patch+json"}


def main() -> None:
    """Prints all figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.operator", description=__doc__)
    parser.add_argument("--clusters", type=int, default=200)
    parser.add_argument("--edits", type=int, default=40)
    asked = parser.parse_args()
    figures: dict[str, float] = {}
    with plane(with_controllers=True) as (kube, api):
        figures |= reaction(kube, api, asked.edits)
        crowded_s, _ = many(kube, api, asked.clusters, "with Kubernetes' controllers beside it")
        figures["steady_with_controllers_s"] = round(crowded_s, 1)
    with plane(with_controllers=False) as (kube, api):
        steady_s, peak_mb = many(kube, api, asked.clusters, "API server and operator alone")
        figures |= {"clusters": asked.clusters, "steady_s": round(steady_s, 1), "peak_mb": peak_mb}
        figures["restarted_s"] = round(restarted(kube, asked.clusters), 1)
    print(json.dumps(figures))


@contextmanager
def plane(with_controllers: bool) -> Iterator[tuple[ControlPlane, httpx.Client]]:
    """A fresh API server with our definitions."""
    found = programs()
    if found is None:
        sys.exit(NEEDS)
    with (
        tempfile.TemporaryDirectory() as place,
        control_plane(found, Path(place), with_controllers) as kube,
    ):
        _kubectl(kube, "apply", "--server-side", "-f", str(CRDS))
        _kubectl(kube, "wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        with kube.http() as api:
            yield kube, api


def reaction(kube: ControlPlane, api: httpx.Client, edits: int) -> dict[str, float]:
    """Seconds from the request that edits a spec to the Deployment that says so, as GET sees it."""
    api.post(API, json=changed("metadata.name", "one")).raise_for_status()
    with operator(kube) as (_, port):
        _wait_until_quiet(port)
        took_s = [_edit(api, number) for number in range(edits)]
    median_s, worst_s = statistics.median(took_s), max(took_s)
    print(f"spec edit to Deployment written: median {median_s:.3f} s, worst {worst_s:.3f} s")
    return {"reaction_median_s": round(median_s, 3), "reaction_worst_s": round(worst_s, 3)}


def many(kube: ControlPlane, api: httpx.Client, clusters: int, where: str) -> tuple[float, float]:
    """Seconds from the start of an operator until it has made all clusters, and its peak in MB."""
    for number in range(clusters):
        api.post(API, json=changed("metadata.name", f"many-{number}")).raise_for_status()
    began_s = time.monotonic()
    with operator(kube) as (process, port):
        steady_s = _wait_until_quiet(port) - began_s
        peak_mb = round(_peak_bytes(process.pid) / 1e6)
        writes = _metric(port, "splitwise_operator_writes_total")
    late = [
        item["metadata"]["name"]
        for item in api.get(API).json()["items"]
        if item.get("status", {}).get("observedGeneration") != item["metadata"]["generation"]
    ]
    assert not late, f"never looked at: {late}"
    print(f"{clusters} clusters, {where}: made after {steady_s:.1f} s with {writes:.0f} writes, ")
    print(f"  peak memory of the operator {peak_mb} MB")
    return steady_s, peak_mb


def restarted(kube: ControlPlane, clusters: int) -> float:
    """Seconds until an operator has looked at all clusters that are as they should be."""
    began_s = time.monotonic()
    with operator(kube) as (_, port):
        while _metric(port, "splitwise_operator_reconcile_seconds_count") < clusters:
            if time.monotonic() - began_s > GIVE_UP_S:
                raise TimeoutError("the operator does not look at all clusters")
            time.sleep(0.2)
        took_s = time.monotonic() - began_s
        writes = _metric(port, "splitwise_operator_writes_total")
    print(f"restarted: all looked at after {took_s:.1f} s, {writes:.0f} writes")
    return took_s


@contextmanager
def operator(kube: ControlPlane) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """A running operator and the port of its status page."""
    port = free_port()
    process = subprocess.Popen(
        [OPERATOR, f"--listen=127.0.0.1:{port}", "--identity=bench"],
        env=os.environ | {"KUBECONFIG": str(kube.kubeconfig)},
    )
    try:
        yield process, port
    finally:
        process.terminate()
        process.wait(30)


def _kubectl(kube: ControlPlane, *arguments: str) -> None:
    done = kube.kubectl(*arguments)
    if done.returncode:
        sys.exit(done.stderr)


def _edit(api: httpx.Client, number: int) -> float:
    wanted = 1 + number % 2 * 8
    began_s = time.monotonic()
    patch: dict[str, Any] = {"spec": {"router": {"retries": wanted}}}
    answer = api.patch(f"{API}/one", content=json.dumps(patch), headers=MERGE)
    answer.raise_for_status()
    path = "/apis/apps/v1/namespaces/default/deployments/one-router"
    while time.monotonic() - began_s < GIVE_UP_S:
        pod = api.get(path).json()["spec"]["template"]["spec"]
        if f"--retries={wanted}" in pod["containers"][0]["args"]:
            return time.monotonic() - began_s
    raise TimeoutError("the Deployment was never written")


def _wait_until_quiet(port: int) -> float:
    """When the operator has written for the last time, on the monotonic clock."""
    began_s = time.monotonic()
    before, since_s = 0.0, began_s
    while time.monotonic() - began_s < GIVE_UP_S:
        writes = _metric(port, "splitwise_operator_writes_total")
        if writes != before:
            before, since_s = writes, time.monotonic()
        elif writes and time.monotonic() - since_s > SETTLED_S:
            return since_s
        time.sleep(POLL_S)
    raise TimeoutError("the operator does not come to rest")


def _metric(port: int, name: str) -> float:
    """The sum over all series of a metric; 0 while nobody answers."""
    try:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    except httpx.TransportError:
        return 0.0
    families = text_string_to_metric_families(text)
    samples = (sample for family in families for sample in family.samples)
    return sum(sample.value for sample in samples if sample.name == name)


def _peak_bytes(pid: int) -> int:
    """The most memory that the process has had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return int(psutil.Process(pid).memory_info().rss)


if __name__ == "__main__":
    main()
