"""`splitwise doctor --url` on a whole cluster under load."""

import json
from typing import Any

import pytest

from splitwise_core.policy.advice import FEWEST, Confidence, Verdict, Why
from tests.support.cluster import Cluster, splitwise, under_load

pytestmark = pytest.mark.e2e


def _arrangements(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Those that keep up with the load."""
    return [one for one in (found["split"], found["together"]) if one]


def test_a_running_cluster_is_told_how_its_load_should_be_split(cluster: Cluster) -> None:
    asked = ["doctor", "--url", cluster.url, "--seconds", "10"]
    with under_load(cluster.url, rate=10):
        done = splitwise(*asked, "-o", "json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["requests"] >= FEWEST
    assert found["verdict"] in set(Verdict)
    assert found["why"] in set(Why) - {Why.TOO_FEW_REQUESTS, Why.ONE_WORKER}
    print(found)
    assert found["confidence"] in set(Confidence)
    assert found["prompt_s"] > 0
    assert found["measured_e2e_s"] > found["prompt_s"]
    sizes = [(one["prompt_workers"], one["token_workers"]) for one in _arrangements(found)]
    assert all(prompts + tokens in (3, 6) for prompts, tokens in sizes)


def test_a_cluster_that_nobody_asks_is_told_nothing(cluster: Cluster) -> None:
    done = splitwise("doctor", "--url", cluster.url, "--seconds", "0.1")
    assert done.returncode == 0, done.stderr
    assert "Unknown: fewer than" in done.stdout


def test_advice_where_no_router_is() -> None:
    done = splitwise("doctor", "--url", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "no router answers" in done.stderr
