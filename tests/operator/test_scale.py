"""Who says how many workers a pool has."""

import pytest

from splitwise_core.spec_pool import Pool
from splitwise_operator import scale
from splitwise_operator.observed import Scaled

BOUNDS = {"by": "External", "minReplicas": 2, "maxReplicas": 6}

SLEEPS = {"by": "Load", "minReplicas": 0, "maxReplicas": 6}


def pool(**fields: object) -> Pool:
    return Pool.model_validate({"name": "prompt", "role": "prompt", **fields})


def scaled(replicas: int, asked: str = "", ours: bool = True) -> Scaled:
    return Scaled(replicas, asked, ours, status=None)


@pytest.mark.parametrize(
    ("asked", "there", "expected"),
    [
        pytest.param(pool(), None, 1, id="a new pool begins with one"),
        pytest.param(pool(replicas=3), None, 3, id="or with what it is told"),
        pytest.param(pool(autoscaling=BOUNDS), None, 2, id="or with the least of an autoscaler"),
        pytest.param(pool(replicas=3), scaled(3, "3"), 3, id="and stays"),
        pytest.param(pool(replicas=3), scaled(5, "3"), 5, id="kubectl scale holds"),
        pytest.param(pool(replicas=4), scaled(5, "3"), 4, id="until the spec is changed"),
        pytest.param(pool(), scaled(5, "3"), 5, id="no number in the spec drains nothing"),
        pytest.param(pool(autoscaling=BOUNDS), scaled(5, "5"), 5, id="nor does an autoscaler"),
        pytest.param(pool(autoscaling=BOUNDS), scaled(9), 6, id="within its most"),
        pytest.param(pool(autoscaling=BOUNDS), scaled(1), 2, id="and its least"),
        pytest.param(pool(autoscaling=SLEEPS), scaled(0), 0, id="or at zero, where it may"),
        pytest.param(pool(), scaled(0), 1, id="who slept wakes when nobody scales it any more"),
        pytest.param(pool(), scaled(5, ""), 5, id="an autoscaler that is taken away neither"),
    ],
)
def test_workers_of_a_pool(asked: Pool, there: Scaled | None, expected: int) -> None:
    assert scale.desired(asked, there) == expected


@pytest.mark.parametrize(
    ("there", "is_written"),
    [
        pytest.param(None, True, id="a new object has them"),
        pytest.param(scaled(3), True, id="our own stay ours"),
        pytest.param(scaled(3, ours=False), False, id="what others set is left to them"),
        pytest.param(scaled(9, ours=False), True, id="unless it does not hold"),
    ],
)
def test_replicas_that_others_set_are_not_applied(there: Scaled | None, is_written: bool) -> None:
    body = {"spec": {"replicas": 3, "pool": "prompt"}}
    made = scale.without_others_replicas(body, there)
    assert ("replicas" in made["spec"]) is is_written
    assert made["spec"]["pool"] == "prompt"
