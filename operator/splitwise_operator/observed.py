"""What the API server has of a cluster, as far as decisions need it. Pure: objects to records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from splitwise_core.labels import POOL_LABEL, REVISION_LABEL, ROLE_LABEL
from splitwise_operator import names
from splitwise_operator.kube import AUTOSCALER, FIELD_MANAGER
from splitwise_operator.names import Object
from splitwise_operator.ownership import DIGEST, declared_owners, owned_fields

CANNOT_START: Final = frozenset(
    {
        *("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
        *("CreateContainerConfigError", "CreateContainerError", "RunContainerError"),
    }
)
"""Kubernetes' reasons of a container that waits and will not start by itself."""

CRASHING: Final = "CrashLoopBackOff"
TOLD: Final = 600
"""Characters of a container's last words that status repeats."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod's container does not run: Kubernetes' reason, and what it or the process said."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Workers:
    """A Deployment of one pool and revision. `settled`: pods that have been ready for some seconds.

    `refused`: why it cannot make the pods it should.
    """

    wanted: int
    settled: int
    refused: str | None


@dataclass(frozen=True, slots=True)
class Scaled:
    """A SplitwisePool. `asked`: what the cluster's spec asked for last. `ours`: nobody else set
    the replicas since. `by_law`: the last to set them was our autoscaler."""

    replicas: int
    asked: str
    ours: bool
    status: Object | None
    by_law: bool = False

    @property
    def by(self) -> str:
        """Who has set the replicas last, as status says it."""
        return "Spec" if self.ours else "Autoscaler" if self.by_law else "External"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. `address`: its IP, or "". `unschedulable`: the scheduler's words. `cost`: of its
    deletion, as it was marked."""

    address: str
    ready: bool
    unschedulable: str | None
    trouble: Trouble | None
    cost: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """An object: what tells it apart, whether it is as applied, and what decisions need of it."""

    kind: str
    namespace: str
    name: str
    uid: str
    version: int
    is_leaving: bool
    pool: str
    role: str
    revision: str
    digest: str
    owned: str
    others: frozenset[str]
    part: Workers | Scaled | Pod | None = field(default=None)


def seen(kind: str, body: Object) -> Seen:
    """The record of an object."""
    meta = body["metadata"]
    labels = meta.get("labels") or {}
    is_pod = kind == "Pod"
    owned = "" if is_pod else owned_fields(body, FIELD_MANAGER)
    return Seen(
        kind=kind,
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        version=int(meta["resourceVersion"]),
        is_leaving="deletionTimestamp" in meta,
        pool=labels.get(POOL_LABEL, ""),
        role=labels.get(ROLE_LABEL, ""),
        revision=labels.get(REVISION_LABEL, ""),
        digest=(meta.get("annotations") or {}).get(DIGEST, ""),
        owned=owned,
        others=frozenset() if is_pod else declared_owners(body) - {FIELD_MANAGER},
        part=_part(kind, body, owned),
    )


def _part(kind: str, body: Object, owned: str) -> Workers | Scaled | Pod | None:
    if kind == "Deployment":
        refused = _condition(body, "ReplicaFailure")
        failed = refused is not None and refused["status"] == "True"
        why = refused.get("message", "") if refused is not None and failed else None
        settled = (body.get("status") or {}).get("availableReplicas", 0)
        return Workers(int(body["spec"].get("replicas", 1)), settled, why)
    if kind == "SplitwisePool":
        marks = body["metadata"].get("annotations") or {}
        return Scaled(
            replicas=int(body["spec"]["replicas"]),
            asked=marks.get(names.ASKED_REPLICAS, ""),
            ours='"f:replicas"' in owned,
            status=body.get("status"),
            by_law=any(
                entry["manager"] == AUTOSCALER and "f:replicas" in str(entry.get("fieldsV1"))
                for entry in body["metadata"].get("managedFields", [])
            ),
        )
    return _pod(body) if kind == "Pod" else None


def _pod(body: Object) -> Pod:
    scheduled, ready = _condition(body, "PodScheduled"), _condition(body, "Ready")
    waits = scheduled is not None and scheduled.get("reason") == "Unschedulable"
    status = body.get("status") or {}
    containers = [
        *status.get("initContainerStatuses", []),
        *status.get("containerStatuses", []),
    ]
    return Pod(
        address=status.get("podIP", ""),
        ready=ready is not None and ready["status"] == "True",
        unschedulable=scheduled.get("message", "") if scheduled is not None and waits else None,
        trouble=next((found for one in containers if (found := _trouble(one))), None),
        cost=(body["metadata"].get("annotations") or {}).get(names.DELETION_COST),
    )


def _trouble(container: Mapping[str, Any]) -> Trouble | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    ended = (container.get("state") or {}).get("terminated") or {}
    last = (container.get("lastState") or {}).get("terminated") or {}
    name, reason = container["name"], waiting.get("reason", "")
    if reason in CANNOT_START:
        return Trouble(reason, f"container {name}: {waiting.get('message') or reason}"[:TOLD])
    died = ended if ended.get("exitCode") else last if reason == CRASHING else None
    if not died:
        return None
    words = (died.get("message") or died.get("reason") or "").strip()[-TOLD:]
    return Trouble(CRASHING, f"container {name} ended with status {died.get('exitCode')}: {words}")


def _condition(body: Object, kind: str) -> Mapping[str, Any] | None:
    conditions: Sequence[Mapping[str, Any]] = (body.get("status") or {}).get("conditions") or []
    return next((c for c in conditions if c["type"] == kind), None)
