"""What counts as a worker that a rollout can rely on."""

from typing import Any

import pytest

from splitwise_core.manifest import parse_cluster
from splitwise_operator.fleet import pool_states
from splitwise_operator.observed import Seen, seen
from tests.support.manifests import GOOD, changed

CLUSTER = parse_cluster(GOOD)


def there(kind: str, name: str, **body: Any) -> Seen:
    """An object of pool `prompt`, revision `r1`."""
    labels = {"splitwise.dev/pool": "prompt", "splitwise.dev/role": "prompt"}
    meta = {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"}
    return seen(
        kind, {"metadata": meta | {"labels": labels | {"splitwise.dev/revision": "r1"}}} | body
    )


def pod(name: str, ready: bool) -> Seen:
    return there("Pod", name, status={"conditions": [{"type": "Ready", "status": str(ready)}]})


@pytest.mark.parametrize(
    ("ready", "settled", "expected"),
    [
        pytest.param([True, True], 0, 0, id="ready just now: routers may not have met them"),
        pytest.param([True, True], 1, 1, id="one has been ready for a while"),
        pytest.param([True, True], 2, 2, id="both have"),
        pytest.param([True, False], 2, 1, id="one has gone, and its Deployment does not know yet"),
    ],
)
def test_what_takes_over_is_ready_and_has_been(
    ready: list[bool], settled: int, expected: int
) -> None:
    assert ready_of_r1(ready, settled, current="r1") == expected


def test_what_goes_counts_for_as_long_as_it_is_ready() -> None:
    assert ready_of_r1([True, True], 0, current="r2") == 2


@pytest.mark.parametrize(
    ("prompt", "token", "expected"),
    [
        pytest.param(0, 0, {"prompt": 0, "token": 0}, id="both sleep"),
        pytest.param(0, 2, {"prompt": 1, "token": 2}, id="the other has not been told yet"),
        pytest.param(1, 0, {"prompt": 1, "token": 1}, id="the other is to wake too"),
    ],
)
def test_no_phase_is_at_zero_without_the_other(
    prompt: int, token: int, expected: dict[str, int]
) -> None:
    law = {"by": "Load", "minReplicas": 0, "maxReplicas": 2}
    pools = [{"name": role, "role": role, "autoscaling": law} for role in ("prompt", "token")]
    made = parse_cluster(changed("spec.pools", pools))
    scaled = [
        there("SplitwisePool", "demo-prompt", spec={"replicas": prompt}),
        there("SplitwisePool", "demo-token", spec={"replicas": token}),
    ]
    states = pool_states(made, {(own.kind, own.name): own for own in scaled}, "r1")
    assert {state.name: state.desired for state in states} == expected


def ready_of_r1(ready: list[bool], settled: int, current: str) -> int:
    status = {"availableReplicas": settled}
    workers = there("Deployment", "demo-prompt-r1", spec={"replicas": 2}, status=status)
    objects = [workers, *(pod(f"p{number}", is_ready) for number, is_ready in enumerate(ready))]
    states = pool_states(CLUSTER, {(own.kind, own.name): own for own in objects}, current)
    (prompt,) = [state for state in states if state.name == "prompt"]
    return prompt.ready["r1"]
