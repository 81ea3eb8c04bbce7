"""What a cluster's status says of what is there."""

from typing import Any

import pytest

from splitwise_core.manifest import parse_cluster
from splitwise_operator.conditions import EXPLAINED, Condition, Reason
from splitwise_operator.events import events
from splitwise_operator.observed import Seen, seen
from splitwise_operator.scaled_pools import ScalingView
from splitwise_operator.status import Problem, View, cluster_status, count, invalid_status
from tests.support.manifests import GOOD

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
REV = "r1"
CLUSTER = parse_cluster(GOOD)


def pod(pool: str, *, name: str = "", revision: str = REV, **status: Any) -> Seen:
    """A pod as the API server has it; ready unless `status` says otherwise."""
    ready = status.pop("ready", not status)
    leaving = {"deletionTimestamp": NOW} if status.pop("leaving", False) else {}
    conditions = [{"type": "Ready", "status": str(ready)}, *status.pop("conditions", [])]
    labels = {"splitwise.dev/pool": pool, "splitwise.dev/revision": revision}
    body = {
        "metadata": {
            "name": name or f"{pool}-0",
            "namespace": "default",
            "uid": "u",
            "resourceVersion": "1",
            "labels": labels,
            **leaving,
        },
        "status": {"conditions": conditions, **status},
    }
    return seen("Pod", body)


def container(**state: Any) -> dict[str, Any]:
    return {"containerStatuses": [{"name": "worker", **state}]}


def deployment(pool: str, *conditions: dict[str, str], revision: str = REV) -> Seen:
    meta = {"name": "d", "namespace": "default", "uid": "u", "resourceVersion": "1"}
    labels = {"splitwise.dev/pool": pool, "splitwise.dev/revision": revision}
    status = {"conditions": list(conditions)}
    body = {"metadata": meta | {"labels": labels}, "spec": {"replicas": 1}, "status": status}
    return seen("Deployment", body)


def refused(message: str) -> Seen:
    failure = {"type": "ReplicaFailure", "status": "True", "message": message}
    return deployment("prompt", failure)


def status_of(
    *objects: Seen,
    problems: tuple[Problem, ...] = (),
    before: dict[str, Any] | None = None,
    transfer: tuple[dict[str, Any], ...] = (),
    scaling: ScalingView | None = None,
) -> dict[str, Any]:
    pools = [count(objects, p.name, p.role, p.seed, REV) for p in CLUSTER.spec.pools]
    routers = count(objects, "router", "router", 1, REV)
    view = View(
        CLUSTER, REV, pools, routers, list(objects), problems, transfer, scaling or ScalingView()
    )
    return cluster_status(view, 7, before or {}, NOW if before is None else LATER)


def conditions_of(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


ALL = (pod("prompt"), pod("token"), pod("router"))


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        pytest.param(deployment("prompt"), "Complete", id="what the spec asks for"),
        pytest.param(deployment("gone"), "Scaling", id="a pool that the spec no longer has"),
        pytest.param(deployment("prompt", revision="r0"), "RollingOut", id="another revision"),
    ],
)
def test_a_cluster_is_complete_when_nothing_is_left_to_go(left: Seen, reason: str) -> None:
    assert conditions_of(status_of(*ALL, left))["Progressing"][1] == reason


UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}


def test_a_cluster_whose_pods_are_all_ready_serves() -> None:
    status = status_of(*ALL)
    assert conditions_of(status) == {
        "Ready": ("True", "Serving"),
        "PoolsReady": ("True", "AllReady"),
        "RouterReady": ("True", "AllReady"),
        "TransferVerified": ("True", "ProbesPassed"),
        "ScalingActive": ("True", "ReplicasSettable"),
        "CapacityAvailable": ("True", "Scheduled"),
        "Progressing": ("False", "Complete"),
    }
    assert status["observedGeneration"] == 7
    assert {c["observedGeneration"] for c in status["conditions"]} == {7}
    assert status["workers"] == {"prompt": "1/1", "token": "1/1"}
    assert status["endpoint"] == "http://demo-router.default.svc:8000"


def test_a_cluster_of_no_workers_that_wakes_when_asked_is_ready_and_says_so() -> None:
    pools = [count((), pool.name, pool.role, 0, REV) for pool in CLUSTER.spec.pools]
    routers = count([pod("router")], "router", "router", 1, REV)
    view = View(CLUSTER, REV, pools, routers, [], ())
    found = conditions_of(cluster_status(view, 7, {}, NOW))
    assert found["Ready"] == ("True", "Asleep")
    assert found["Progressing"] == ("False", "Complete")


@pytest.mark.parametrize(
    ("objects", "condition", "expected"),
    [
        pytest.param((), Condition.PROGRESSING, ("True", "Creating"), id="nothing yet"),
        pytest.param(ALL[:1], Condition.READY, ("False", "PoolsNotReady"), id="a pool is late"),
        pytest.param(ALL[:2], Condition.READY, ("False", "RouterNotReady"), id="the router is"),
        pytest.param(ALL[:1], Condition.TRANSFER_VERIFIED, ("Unknown", "NotProbed"), id="unproven"),
        pytest.param(
            (*ALL, pod("token", revision="r0")),
            Condition.PROGRESSING,
            ("True", "RollingOut"),
            id="an old revision is still there",
        ),
        pytest.param(
            (*ALL, pod("token", leaving=True)),
            Condition.PROGRESSING,
            ("True", "Scaling"),
            id="a worker drains",
        ),
        pytest.param(
            (*ALL[1:], pod("prompt", conditions=[UNSCHEDULABLE])),
            Condition.CAPACITY_AVAILABLE,
            ("False", "Unschedulable"),
            id="no node takes a pod",
        ),
        pytest.param(
            (*ALL[1:], refused('pods "x" is forbidden: exceeded quota: q')),
            Condition.CAPACITY_AVAILABLE,
            ("False", "QuotaExceeded"),
            id="the quota refuses a pod",
        ),
        pytest.param(
            (*ALL[1:], refused('pods "x" is forbidden: violates PodSecurity "restricted"')),
            Condition.CAPACITY_AVAILABLE,
            ("False", "PodsRefused"),
            id="a policy refuses a pod",
        ),
        pytest.param(
            (*ALL[1:], pod("prompt", **container(state={"waiting": {"reason": "ErrImagePull"}}))),
            Condition.POOLS_READY,
            ("False", "ImageFailed"),
            id="an image cannot be had",
        ),
        pytest.param(
            (*ALL[1:], pod("prompt", **container(state={"terminated": {"exitCode": 2}}))),
            Condition.POOLS_READY,
            ("False", "ContainerFailing"),
            id="a process ends",
        ),
    ],
)
def test_condition(
    objects: tuple[Seen, ...], condition: Condition, expected: tuple[str, str]
) -> None:
    assert conditions_of(status_of(*objects))[condition] == expected


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        pytest.param(
            (pod("prompt", conditions=[UNSCHEDULABLE]),),
            "3 Insufficient nvidia.com/gpu",
            id="the scheduler's",
        ),
        pytest.param(
            (
                pod(
                    "prompt",
                    **container(
                        state={"waiting": {"reason": "CrashLoopBackOff"}},
                        lastState={"terminated": {"exitCode": 2, "message": "model-missing"}},
                    ),
                ),
            ),
            "ended with status 2: model-missing",
            id="a process's last",
        ),
        pytest.param((refused("exceeded quota: q"),), "exceeded quota: q", id="the quota's"),
    ],
)
def test_a_message_has_the_words_of_who_knows(objects: tuple[Seen, ...], words: str) -> None:
    said = [c["message"] for c in status_of(*objects)["conditions"] if c["status"] == "False"]
    assert any(words in message for message in said)
    assert all("Fix: " in message for message in said)


def test_scaling_is_told_of_with_its_last_decisions() -> None:
    last = [{"pool": "prompt", "from": 1, "to": 2, "reason": "BacklogHigh", "inputs": {}}]
    status = status_of(*ALL, scaling=ScalingView(last, silent=["token"], short=["prompt"]))
    assert status["scaling"] == last
    said = conditions_of(status)
    assert said["ScalingActive"] == ("Unknown", "LoadUnknown")
    assert said["CapacityAvailable"] == ("False", "CapacityMissing")
    assert said["Ready"] == ("True", "Serving")


def test_what_the_operator_cannot_do_is_said_and_what_runs_is_still_ready() -> None:
    problem = Problem(Reason.FIELD_CONFLICT, "Deployment x: conflict with rogue")
    said = conditions_of(status_of(*ALL, problems=(problem,)))
    assert said["Progressing"] == ("False", "FieldConflict")
    assert said["Ready"] == ("True", "Serving")


def test_times_move_only_when_a_status_does() -> None:
    before = status_of(*ALL[:1])
    times = {
        c["type"]: c["lastTransitionTime"] for c in status_of(*ALL, before=before)["conditions"]
    }
    assert times["Ready"] == times["RouterReady"] == LATER
    assert times["CapacityAvailable"] == times["ScalingActive"] == NOW
    assert status_of(*ALL, before=status_of(*ALL)) == status_of(*ALL)


def test_an_invalid_spec_is_said_and_what_runs_goes_on() -> None:
    before = status_of(*ALL)
    problem = Problem(Reason.INVALID_SPEC, "spec.model.path: is relative")
    said = invalid_status(problem, 8, before, LATER)
    assert conditions_of(said)["Ready"] == ("False", "InvalidSpec")
    assert conditions_of(said)["PoolsReady"] == ("True", "AllReady")
    assert said["pools"] == before["pools"]
    assert said["observedGeneration"] == 8


def test_people_are_told_of_changes_alone() -> None:
    body = {"metadata": {"name": "demo", "namespace": "default", "uid": "u"}}
    starting, serving = status_of(*ALL[:1]), status_of(*ALL)
    assert [e["reason"] for e in events(body, {}, starting, NOW)] == ["Scheduled"]
    told = {e["reason"]: e["type"] for e in events(body, starting, serving, NOW)}
    assert told["Serving"] == "Normal"
    back = {e["reason"]: e["type"] for e in events(body, serving, starting, NOW)}
    assert back["PoolsNotReady"] == "Warning"
    assert events(body, serving, serving, NOW) == []


def test_every_reason_is_explained() -> None:
    assert set(EXPLAINED) == set(Reason)
