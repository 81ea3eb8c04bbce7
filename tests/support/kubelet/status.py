"""From the runner's containers to a PodStatus. Pure: the time is an argument."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from splitwise_cli.runner.container import Container
from splitwise_cli.runner.termination import Ended
from tests.support.kubelet.images import Waiting
from tests.support.kubelet.node import stamp

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """A pod as its kubelet sees it; containers that are not made yet are missing."""

    pod: Object
    address: str
    host_address: str
    began: str
    containers: Mapping[str, Container] = field(default_factory=dict)
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    is_ending: bool = False


def pod_status(seen: Seen, before: Sequence[Object], now: str) -> Object:
    """The whole status; `before` are the conditions that were told last."""
    spec = seen.pod["spec"]
    init = [_container_status(seen, own, is_first=True) for own in spec.get("initContainers", [])]
    main = [_container_status(seen, own, is_first=False) for own in spec["containers"]]
    status: Object = {
        "phase": phase(seen, init, main),
        "conditions": _conditions(seen, init, main, before, now),
        "hostIP": seen.host_address,
        "hostIPs": [{"ip": seen.host_address}],
        "podIP": seen.address,
        "podIPs": [{"ip": seen.address}],
        "startTime": seen.began,
        "containerStatuses": main,
    }
    if init:
        status["initContainerStatuses"] = init
    return status


def phase(seen: Seen, init: Sequence[Object], main: Sequence[Object]) -> str:
    """Pending until every main container has run; over when none of them will run again."""
    ended = [own["state"]["terminated"] for own in main if "terminated" in own["state"]]
    if len(ended) == len(main):
        return "Succeeded" if all(own["exitCode"] == 0 for own in ended) else "Failed"
    steps = [own for own in init if own["name"] not in _sidecars(seen)]
    if any(own["state"].get("terminated", {}).get("exitCode") for own in steps):
        return "Failed"
    never_ran = ("waiting" in own["state"] and "lastState" not in own for own in main)
    return "Pending" if any(never_ran) else "Running"


def _sidecars(seen: Seen) -> set[str]:
    init = seen.pod["spec"].get("initContainers", [])
    return {own["name"] for own in init if own.get("restartPolicy") == "Always"}


def _container_status(seen: Seen, spec: Object, *, is_first: bool) -> Object:
    container = seen.containers.get(spec["name"])
    is_sidecar = spec["name"] in _sidecars(seen)
    status: Object = {
        "name": spec["name"],
        "image": spec["image"],
        "imageID": "",
        "ready": False,
        "started": False,
        "restartCount": 0,
        "state": _state(seen, spec, container, is_first=is_first),
    }
    if container is None:
        return status
    is_done = is_first and not is_sidecar and "terminated" in status["state"]
    status |= {
        "ready": container.exit_code == 0 if is_done else container.ready,
        "started": container.started.is_set(),
        "restartCount": container.restarts,
    }
    if container.pid is not None or container.last is not None:
        meta = seen.pod["metadata"]
        status["imageID"] = spec["image"]
        status["containerID"] = f"process://{meta['uid']}.{spec['name']}.{container.restarts}"
    if container.last is not None and "terminated" not in status["state"]:
        status["lastState"] = {"terminated": _terminated(container.last)}
    return status


def _state(seen: Seen, spec: Object, container: Container | None, *, is_first: bool) -> Object:
    if container is not None and container.began_s is not None:
        return {"running": {"startedAt": _stamp(container.began_s)}}
    if container is not None and container.finished.is_set() and container.last is not None:
        return {"terminated": _terminated(container.last)}
    if container is not None and container.finished.is_set() and seen.is_ending:
        return {"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown"}}
    if container is not None and container.is_backing_off:
        name = f"{spec['name']} in pod {seen.pod['metadata']['name']}"
        message = f"back-off restarting failed container {name}"
        return {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
    waiting = seen.waiting.get(spec["name"])
    if waiting is None:
        after_others = not is_first and "initContainers" in seen.pod["spec"]
        waiting = Waiting("PodInitializing" if after_others else "ContainerCreating")
    told = {"reason": waiting.reason}
    return {"waiting": told | ({"message": waiting.message} if waiting.message else {})}


def _terminated(ended: Ended) -> Object:
    code = ended.exit_code
    told = {
        "exitCode": 128 - code if code < 0 else code,
        "reason": "Completed" if code == 0 else "Error",
        "startedAt": _stamp(ended.began_s),
        "finishedAt": _stamp(ended.ended_s),
    }
    return told | ({"message": ended.message} if ended.message else {})


def _conditions(
    seen: Seen,
    init: Sequence[Object],
    main: Sequence[Object],
    before: Sequence[Object],
    now: str,
) -> list[Object]:
    sidecars = _sidecars(seen)
    lasting = [own for own in init if own["name"] in sidecars] + list(main)
    first = [own["name"] for own in init if not _has_begun(own, own["name"] in sidecars)]
    unready = [own["name"] for own in lasting if not own["ready"]]
    gates = _closed_gates(seen.pod)
    told = [
        _condition("PodReadyToStartContainers", []),
        _condition("Initialized", first, "ContainersNotInitialized", "incomplete"),
        _condition("ContainersReady", unready, "ContainersNotReady", "unready"),
        _condition("Ready", unready, "ContainersNotReady", "unready")
        if unready
        else _condition("Ready", gates, "ReadinessGatesNotReady", "gate"),
        _condition("PodScheduled", []),
    ]
    own = {condition["type"] for condition in told}
    others = [c for c in seen.pod["status"].get("conditions", []) if c["type"] not in own]
    return [_with_transition(condition, before, now) for condition in told] + others


def _has_begun(status: Object, is_sidecar: bool) -> bool:
    """Whether an init container no longer keeps those after it from starting."""
    if is_sidecar:
        return bool(status["started"])
    return bool(status["state"].get("terminated", {}).get("exitCode", 1) == 0)


def _closed_gates(pod: Object) -> list[str]:
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates", [])]
    conditions = pod["status"].get("conditions", [])
    opened = {c["type"] for c in conditions if c["status"] == "True"}
    return [gate for gate in gates if gate not in opened]


def _condition(kind: str, missing: Iterable[str], reason: str = "", what: str = "") -> Object:
    """True unless something is missing."""
    if names := " ".join(missing):
        message = f"containers with {what} status: [{names}]"
        return {"type": kind, "status": "False", "reason": reason, "message": message}
    return {"type": kind, "status": "True"}


def _with_transition(condition: Object, before: Sequence[Object], now: str) -> Object:
    for old in before:
        if old["type"] == condition["type"] and old["status"] == condition["status"]:
            return {**condition, "lastTransitionTime": old.get("lastTransitionTime") or now}
    return {**condition, "lastTransitionTime": now}


def _stamp(seconds: float) -> str:
    return stamp(datetime.fromtimestamp(seconds, UTC))
