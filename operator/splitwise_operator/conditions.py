"""Every condition of a cluster and every reason, once; docs/conditions.md is printed from here."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Condition(StrEnum):
    """What a cluster's status says is so, is not, or is not known."""

    READY = "Ready"
    POOLS_READY = "PoolsReady"
    ROUTER_READY = "RouterReady"
    TRANSFER_VERIFIED = "TransferVerified"
    SCALING_ACTIVE = "ScalingActive"
    CAPACITY_AVAILABLE = "CapacityAvailable"
    PROGRESSING = "Progressing"


ABOUT: Final = {
    Condition.READY: "The cluster is as its spec says, and serves.",
    Condition.POOLS_READY: "Every pool has the workers that it should have, ready.",
    Condition.ROUTER_READY: "All routers take requests.",
    Condition.TRANSFER_VERIFIED: "Ready workers have moved KV through their sidecars, and between "
    "all pools that were measured.",
    Condition.SCALING_ACTIVE: "The replicas of every pool can be set, and the load is known of "
    "those that the operator scales.",
    Condition.CAPACITY_AVAILABLE: "The nodes and quotas have room for all pods.",
    Condition.PROGRESSING: "Something is being made or replaced. False when all is done, or when "
    "it cannot go on: the reason tells.",
}


class Reason(StrEnum):
    """Why a condition is as it is."""

    SERVING = "Serving"
    ASLEEP = "Asleep"
    POOLS_NOT_READY = "PoolsNotReady"
    ROUTER_NOT_READY = "RouterNotReady"
    ALL_READY = "AllReady"
    STARTING = "Starting"
    IMAGE_FAILED = "ImageFailed"
    CONTAINER_FAILING = "ContainerFailing"
    NO_ROOM = "NoRoom"
    PROBES_PASSED = "ProbesPassed"
    LINKS_MEASURED = "LinksMeasured"
    LINKS_FAILING = "LinksFailing"
    NOT_PROBED = "NotProbed"
    REPLICAS_SETTABLE = "ReplicasSettable"
    LOAD_UNKNOWN = "LoadUnknown"
    CAPACITY_MISSING = "CapacityMissing"
    SCHEDULED = "Scheduled"
    UNSCHEDULABLE = "Unschedulable"
    QUOTA_EXCEEDED = "QuotaExceeded"
    PODS_REFUSED = "PodsRefused"
    CREATING = "Creating"
    ROLLING_OUT = "RollingOut"
    SCALING = "Scaling"
    COMPLETE = "Complete"
    INVALID_SPEC = "InvalidSpec"
    OBJECT_REFUSED = "ObjectRefused"
    FORBIDDEN = "Forbidden"
    FIELD_CONFLICT = "FieldConflict"
    NAME_TAKEN = "NameTaken"
    CERTIFICATE_UNUSABLE = "CertificateUnusable"
    API_UNAVAILABLE = "ApiUnavailable"


@dataclass(frozen=True, slots=True)
class Explained:
    """A reason in a sentence, and what to do about it; "" where there is nothing to do."""

    meaning: str
    fix: str = ""


EXPLAINED: Final = {
    Reason.SERVING: Explained("All pools and routers are ready."),
    Reason.ASLEEP: Explained(
        "All pools are at zero, for nobody has asked for `idleSeconds`. Routers hold what comes "
        "until they have woken."
    ),
    Reason.POOLS_NOT_READY: Explained("PoolsReady is False.", "see the message of PoolsReady"),
    Reason.ROUTER_NOT_READY: Explained("RouterReady is False.", "see the message of RouterReady"),
    Reason.ALL_READY: Explained("As many are ready as there should be."),
    Reason.STARTING: Explained(
        "Pods have been made and are not ready yet.",
        "wait; if it lasts, `kubectl describe` and `kubectl logs` of the pods that are named",
    ),
    Reason.IMAGE_FAILED: Explained(
        "A container's image cannot be had.",
        "correct the image's name or the pull secret: in the operator's values, or in podTemplate",
    ),
    Reason.CONTAINER_FAILING: Explained(
        "A container ends again and again; the message has its last words.",
        "do what they say; the whole log: `kubectl logs --previous` of the pod",
    ),
    Reason.NO_ROOM: Explained("Pods do not run for want of room.", "see CapacityAvailable"),
    Reason.PROBES_PASSED: Explained(
        "A worker is ready only after its sidecar has moved a KV block and verified it."
    ),
    Reason.LINKS_MEASURED: Explained(
        "KV has been moved between workers of the pools and verified; status.transfer has how fast."
    ),
    Reason.LINKS_FAILING: Explained(
        "Between two pools no measured link works; requests are placed elsewhere, if there is one.",
        "see `link fails` in the router's log for the cause; look at network policies, at "
        "spec.transfer.transport, and at the logs of the containers `kv`",
    ),
    Reason.NOT_PROBED: Explained(
        "No worker of some phase is ready, so nothing has been proven.",
        "wait for the workers; a probe that fails says why in /readyz of the worker",
    ),
    Reason.REPLICAS_SETTABLE: Explained(
        "Each pool has a SplitwisePool with the scale subresource."
    ),
    Reason.LOAD_UNKNOWN: Explained(
        "No worker of a pool that the operator scales tells its load; its replicas stay.",
        "wait while it starts; if it lasts, see that the operator can open connections to port "
        "9101 of the workers",
    ),
    Reason.CAPACITY_MISSING: Explained(
        "A pool needs more workers than get a node; the autoscaler has given up those that "
        "waited too long, and asks for them again later.",
        "add nodes or quota, or lower maxReplicas",
    ),
    Reason.SCHEDULED: Explained("No pod waits for a node."),
    Reason.UNSCHEDULABLE: Explained(
        "No node takes a pod; the message is the scheduler's.",
        "add nodes, or change the pool's nodeSelector, tolerations, gpu or resources",
    ),
    Reason.QUOTA_EXCEEDED: Explained(
        "The namespace's ResourceQuota refuses more.", "raise the quota, or lower replicas"
    ),
    Reason.PODS_REFUSED: Explained(
        "The API server refuses the pods, as a Pod Security level or a policy says.",
        "see the message; hostPath models and RDMA need a namespace that allows them: a claim "
        "(spec.model.claim) passes `restricted`",
    ),
    Reason.CREATING: Explained("The cluster starts for the first time."),
    Reason.ROLLING_OUT: Explained(
        "A new revision grows beside the old one, which serves until the new one does."
    ),
    Reason.SCALING: Explained("Workers or routers are being added, removed or replaced."),
    Reason.COMPLETE: Explained("Everything is as the spec says."),
    Reason.INVALID_SPEC: Explained(
        "The spec asks for what cannot be; nothing is changed until it is corrected.",
        "correct the field that the message names",
    ),
    Reason.OBJECT_REFUSED: Explained(
        "The API server takes an object of the cluster not; the message is its own.",
        "correct what it names, often a podTemplate",
    ),
    Reason.FORBIDDEN: Explained(
        "The operator may not do what it must.", "install its Role again: `helm upgrade`"
    ),
    Reason.FIELD_CONFLICT: Explained(
        "Another field manager declares fields that are the operator's, by server-side apply. "
        "They are left to it, and what it says holds.",
        "let that manager give the fields up: remove them from what it applies",
    ),
    Reason.NAME_TAKEN: Explained(
        "There is an object of that name which the operator has not made. It is left alone.",
        "delete or rename that object, or give the cluster or the pool another name",
    ),
    Reason.CERTIFICATE_UNUSABLE: Explained(
        "The Secret that spec.transfer.tls names is not there, or sidecars cannot use what is in "
        "it. Those that run go on with what they have.",
        "put ca.crt, tls.crt and tls.key into it, for client and server authentication and the "
        "DNS name that the message or serverName says; or write mode: Auto",
    ),
    Reason.API_UNAVAILABLE: Explained("The API server answers with errors.", "none; it is retried"),
}


def reference() -> str:
    """docs/conditions.md."""
    lines = [
        "# Conditions",
        "",
        "`kubectl get swc` shows the first, `kubectl describe swc` all: a status, a reason each "
        "and a message. `kubectl wait --for=condition=Ready swc/NAME` waits.",
        "",
        "| condition | true when |",
        "|---|---|",
        *(f"| `{condition}` | {about} |" for condition, about in ABOUT.items()),
        "",
        "## Reasons",
        "",
        "| reason | what it says | what to do |",
        "|---|---|---|",
        *(
            f"| `{reason}` | {about.meaning} | {about.fix or 'nothing'} |"
            for reason, about in EXPLAINED.items()
        ),
        "",
    ]
    return "\n".join(lines)
