"""Events for people: one for each condition whose status has changed. Pure."""

from hashlib import sha256

from splitwise_core.spec import API_VERSION
from splitwise_operator.conditions import Condition
from splitwise_operator.kube import FIELD_MANAGER
from splitwise_operator.names import Object


def events(cluster: Object, before: Object, after: Object, now: str) -> list[Object]:
    """What `kubectl describe` should show of the step from one status to the next."""
    old = {c["type"]: c["status"] for c in before.get("conditions", [])}
    return [
        _event(cluster, condition, now)
        for condition in after["conditions"]
        if condition["status"] != old.get(condition["type"]) and _is_news(condition, old)
    ]


def _is_news(condition: Object, old: dict[str, str]) -> bool:
    """At first nothing is ready: that is no news, but that there is no room is."""
    starts = condition["type"] not in old
    return not starts or condition["type"] == Condition.CAPACITY_AVAILABLE


def scaled_event(cluster: Object, entry: Object) -> Object:
    """That the autoscaler has set a pool's replicas."""
    numbers = ", ".join(f"{name} {value:g}" for name, value in entry["inputs"].items())
    text = f"Pool {entry['pool']}: from {entry['from']} to {entry['to']} workers ({numbers})"
    return _body(cluster, entry["reason"], text, "Normal", entry["time"], f"{entry}")


def _event(cluster: Object, condition: Object, now: str) -> Object:
    bad = condition["status"] != "True" and condition["type"] != Condition.PROGRESSING
    text = f"{condition['type']} is {condition['status']}: {condition['message']}"
    kind = "Warning" if bad else "Normal"
    return _body(cluster, condition["reason"], text, kind, now, f"{condition}")


def _body(cluster: Object, reason: str, text: str, kind: str, now: str, what: str) -> Object:
    meta = cluster["metadata"]
    unique = sha256(f"{meta['uid']}{what}{now}".encode()).hexdigest()[:16]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{meta['name']}.{unique}", "namespace": meta["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "SplitwiseCluster",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
        "type": kind,
        "reason": reason,
        "message": text[:1000],
        "source": {"component": FIELD_MANAGER},
        "reportingComponent": FIELD_MANAGER,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
