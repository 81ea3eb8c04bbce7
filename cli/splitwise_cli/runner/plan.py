"""From rendered objects to the pods that this machine runs: names, addresses, volumes."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from itertools import islice
from typing import Any, Final

from splitwise_cli.runner.gpus import RESOURCE
from splitwise_core.labels import CLUSTER_LABEL, POOL_LABEL, ROLE_LABEL, ROUTER
from splitwise_operator import names

Object = dict[str, Any]

_LOOPBACK: Final = int(IPv4Address("127.64.0.0"))
_NETWORKS: Final = 1 << 14
"""Blocks of 256 addresses from 127.64.0.0 on: one for each running cluster, by chance."""


@dataclass(frozen=True, slots=True)
class PodPlan:
    """One pod to run: `pool` and `role` are its labels'.

    `fields` are further values that `fieldRef` finds, and `data` the contents of the ConfigMaps
    and Secrets that variables refer to, each under its kind and name.
    """

    name: str
    pool: str
    role: str
    address: str
    labels: dict[str, str]
    spec: Object
    gpus: tuple[str, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)


def pods(objects: Sequence[Object], gpus: Sequence[str] = ()) -> list[PodPlan]:
    """The pods of all Deployments. The first router gets 127.0.0.1, all others their own.

    GPUs are handed out in order, none twice, to the pods whose containers ask for them.
    """
    free = iter(gpus)
    first = _LOOPBACK + secrets.randbelow(_NETWORKS) * 256 + 2
    planned: list[PodPlan] = []
    for deployment in (item for item in objects if item["kind"] == "Deployment"):
        template = deployment["spec"]["template"]
        labels = template["metadata"]["labels"]
        role = labels[ROLE_LABEL]
        for number in range(deployment["spec"]["replicas"]):
            at_home = role == ROUTER and number == 0
            address = "127.0.0.1" if at_home else str(IPv4Address(first + len(planned)))
            planned.append(
                PodPlan(
                    name=f"{labels[CLUSTER_LABEL]}-{labels[POOL_LABEL]}-{number}",
                    pool=labels[POOL_LABEL],
                    role=role,
                    address=address,
                    labels=labels,
                    spec=template["spec"],
                    gpus=tuple(islice(free, _gpus_wanted(template["spec"]))),
                )
            )
    return planned


def _gpus_wanted(spec: Object) -> int:
    limits = (c.get("resources", {}).get("limits", {}) for c in spec["containers"])
    return sum(int(limit.get(RESOURCE, 0)) for limit in limits)


def config_maps(objects: Sequence[Object], planned: Sequence[PodPlan]) -> dict[str, dict[str, str]]:
    """The files of each ConfigMap; the one for endpoints lists the planned workers."""
    workers = [
        {
            "address": f"{pod.address}:{names.WORKER_PORT}",
            "pod": pod.name,
            "pool": pod.pool,
            "role": pod.role,
        }
        for pod in planned
        if pod.role != ROUTER
    ]
    files: dict[str, dict[str, str]] = {}
    for item in (item for item in objects if item["kind"] == "ConfigMap"):
        data = dict(item["data"])
        if names.ENDPOINTS_ANNOTATION in item["metadata"].get("annotations", {}):
            data[names.ENDPOINTS_FILE] = json.dumps({"workers": workers}, indent=1)
        files[item["metadata"]["name"]] = data
    return files
