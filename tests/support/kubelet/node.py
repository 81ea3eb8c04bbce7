"""A Node: registered with its capacity and labels, and kept alive by a lease."""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from tests.support.kubelet.api import Api, Object, Refused, insist

log = logging.getLogger("kubelet.node")

RENEW_S: Final = 2.0
LEASE_S: Final = 40
NODES: Final = "/api/v1/nodes"
LEASES: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
_ORDINARY: Final = {"cpu": "64", "memory": "256Gi", "ephemeral-storage": "500Gi", "pods": "110"}
"""More than the tests' pods ask for: what is scarce is said by the test."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine: its pods get addresses of 10.244.`number`.0/24, it has the first itself."""

    name: str
    number: int
    labels: Mapping[str, str]
    resources: Mapping[str, str]

    @classmethod
    def read(cls, file: Path) -> "Node":
        """As `write` has written it."""
        return cls(**json.loads(file.read_text()))

    def write(self, file: Path) -> None:
        """For the kubelet that is to be this node's."""
        fields = {"name": self.name, "number": self.number}
        maps = {"labels": dict(self.labels), "resources": dict(self.resources)}
        file.write_text(json.dumps(fields | maps))

    @property
    def address(self) -> str:
        """Of the node itself."""
        return f"10.244.{self.number}.1"

    def manifest(self) -> Object:
        """The Node, without its status."""
        standard = {
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {**standard, **self.labels}},
            "spec": {"podCIDR": f"10.244.{self.number}.0/24"},
        }

    def status(self, now: datetime) -> Object:
        """The Node's status: ready since `now`."""
        resources = {**_ORDINARY, **self.resources}
        return {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [_condition(*told, now=stamp(now)) for told in _CONDITIONS],
            "addresses": [
                {"type": "InternalIP", "address": self.address},
                {"type": "Hostname", "address": self.name},
            ],
            "nodeInfo": _INFO,
        }

    def lease(self, uid: str, now: datetime) -> Object:
        """The node's lease, renewed at `now`."""
        owner = {"apiVersion": "v1", "kind": "Node", "name": self.name, "uid": uid}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "ownerReferences": [owner]},
            "spec": {
                "holderIdentity": self.name,
                "leaseDurationSeconds": LEASE_S,
                "renewTime": now.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            },
        }


async def keep(api: Api, node: Node) -> None:
    """Registers the node and renews its lease until it is cancelled."""
    uid = await insist(lambda: _register(api, node))
    while True:
        try:
            await _renew(api, node, uid)
            await _stay_ready(api, node)
        except (httpx.TransportError, Refused) as error:
            log.info("lease of %s: %s", node.name, error or type(error).__name__)
        await asyncio.sleep(RENEW_S)


def stamp(moment: datetime) -> str:
    """A time as Kubernetes writes it: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


async def _register(api: Api, node: Node) -> str:
    try:
        made = await api.create(NODES, node.manifest())
    except Refused as refused:
        if refused.code != 409:
            raise
        made = await api.get(f"{NODES}/{node.name}")
    status = {"status": node.status(datetime.now(UTC))}
    await api.merge(f"{NODES}/{node.name}/status", status)
    return str(made["metadata"]["uid"])


async def _stay_ready(api: Api, node: Node) -> None:
    """Says again that the node is ready when it was taken for lost: while nobody could be told."""
    found = await api.get(f"{NODES}/{node.name}")
    told = {own["type"]: own["status"] for own in found.get("status", {}).get("conditions", [])}
    if told.get("Ready") != "True":
        await api.merge(f"{NODES}/{node.name}/status", {"status": node.status(datetime.now(UTC))})


async def _renew(api: Api, node: Node, uid: str) -> None:
    lease = node.lease(uid, datetime.now(UTC))
    try:
        await api.merge(f"{LEASES}/{node.name}", lease)
    except Refused as refused:
        if refused.code != 404:
            raise
        await api.create(LEASES, lease)


_CONDITIONS: Final = (
    ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
    ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
    ("PIDPressure", "False", "KubeletHasSufficientPID"),
    ("Ready", "True", "KubeletReady"),
)
_INFO: Final[dict[str, str]] = {
    "architecture": "amd64",
    "bootID": "",
    "containerRuntimeVersion": "processes://1",
    "kernelVersion": "",
    "kubeProxyVersion": "",
    "kubeletVersion": "v1.34.2",
    "machineID": "",
    "operatingSystem": "linux",
    "osImage": "",
    "systemUUID": "",
}


def _condition(kind: str, status: str, reason: str, now: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
