"""An operator's scrape says of each cluster what its status, its pods and the last look say."""

import pytest

from splitwise_core.metric import Component
from splitwise_core.policy.scaling import Counts, Decision, Reading, Reason
from splitwise_core.telemetry import Telemetry
from splitwise_operator.cluster_metrics import show_clusters
from splitwise_operator.looks import Look, Looks, PoolLook
from splitwise_operator.names import Object
from splitwise_operator.store import Store

KEY = ("team", "chat")
LABELS = {"namespace": "team", "cluster": "chat"}
POOL = LABELS | {"role": "token", "pool": "t"}


def body(**pool: object) -> Object:
    counts = {"desired": 3, "current": 3, "ready": 2, "updated": 2, "draining": 1}
    condition = {"type": "Ready", "status": "False", "reason": "PoolsNotReady"}
    return {
        "metadata": {"namespace": "team", "name": "chat", "generation": 7},
        "spec": {"pools": [{"name": "t", "role": "token", **pool}]},
        "status": {
            "observedGeneration": 5,
            "conditions": [condition],
            "pools": [{"name": "t", "role": "token", **counts}],
        },
    }


def pod(name: str, **condition: object) -> Object:
    meta = {
        "namespace": "team",
        "name": name,
        "uid": name,
        "resourceVersion": "1",
        "labels": {"splitwise.dev/cluster": "chat", "splitwise.dev/pool": "t"},
    }
    return {"metadata": meta, "status": {"conditions": [condition]}}


class Scraped:
    """An operator with one cluster, whose metrics are asked for by their names' ends."""

    def __init__(self, cluster: Object) -> None:
        self.store, self.looks = Store(), Looks()
        self.store.clusters[KEY] = cluster
        self._telemetry = Telemetry(Component.OPERATOR)
        show_clusters(self._telemetry, self.store, self.looks, clock=lambda: 100.0)

    def value(self, name: str, **labels: str) -> float | None:
        found = [
            sample.value
            for family in self._telemetry.registry.collect()
            for sample in family.samples
            if sample.name == f"splitwise_{name}" and sample.labels == labels
        ]
        return found[0] if found else None


@pytest.fixture
def scaled() -> Scraped:
    return Scraped(body(autoscaling={"by": "Load", "minReplicas": 1, "maxReplicas": 3}))


def test_workers_by_state_and_those_that_no_node_takes(scaled: Scraped) -> None:
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    scaled.store.put("Pod", pod("a", **waits, message="no node"))
    scaled.store.put("Pod", pod("b", type="Ready", status="True"))
    states = ("desired", "current", "ready", "updated", "draining", "unschedulable")
    told = [scaled.value("pool_workers", **POOL, state=state) for state in states]
    assert told == [3, 3, 2, 2, 1, 1]


def test_a_spec_that_was_not_taken_up_and_conditions_with_their_reasons(scaled: Scraped) -> None:
    assert scaled.value("cluster_behind_generations", **LABELS) == 2
    said = {"condition": "Ready", "condition_status": "False", "condition_reason": "PoolsNotReady"}
    assert scaled.value("cluster_condition_info", **LABELS, **said) == 1
    now = {"type": "Ready", "status": "True", "reason": "Serving"}
    scaled.store.clusters[KEY]["status"]["conditions"] = [now]
    assert scaled.value("cluster_condition_info", **LABELS, **said) is None


def test_a_scaled_pools_bounds_inputs_and_reason(scaled: Scraped) -> None:
    reading = Reading(at_s=90, seconds=2, workers=2, missing=1, kv_capacity=100, kv_taken=40)
    look = PoolLook(Counts(3, 2), reading, Decision(3, Reason.KV_HIGH), 3.5, None, heard_s=90)
    scaled.looks.add(KEY, Look(100, 0, {"t": look}))
    assert scaled.value("pool_bound_workers", **POOL, bound="most") == 3
    assert scaled.value("pool_needed_workers", **POOL) == 3.5
    assert scaled.value("pool_taken_ratio", **POOL) == pytest.approx(0.4)
    assert scaled.value("pool_silent_workers", **POOL) == 1
    assert scaled.value("pool_load_age_seconds", **POOL) == 10
    assert scaled.value("pool_scaling_info", **POOL, scale_reason="KvHigh") == 1
    assert scaled.value("pool_backlog_seconds", **POOL) is None


def test_a_pool_of_which_nobody_answers_is_as_silent_as_it_has_workers(scaled: Scraped) -> None:
    scaled.looks.add(KEY, Look(100, 0, {"t": PoolLook(Counts(3, 2), None, None)}))
    assert scaled.value("pool_silent_workers", **POOL) == 2
    assert scaled.value("pool_needed_workers", **POOL) is None


def test_a_pool_that_others_scale_has_no_bounds() -> None:
    scraped = Scraped(body(autoscaling={"by": "External", "maxReplicas": 3}))
    assert scraped.value("pool_bound_workers", **POOL, bound="most") is None


def test_a_cluster_that_is_gone_leaves_nothing_behind(scaled: Scraped) -> None:
    assert scaled.value("cluster_behind_generations", **LABELS) == 2
    del scaled.store.clusters[KEY]
    assert scaled.value("cluster_behind_generations", **LABELS) is None
    assert scaled.value("pool_workers", **POOL, state="ready") is None
