"""What goes wrong shows in a condition, with its reason and the fix, and heals when it is over."""

import copy
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.operated import Operated, quickstart

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

AWAY_S = 30.0


def mixed(model: Path, **pool: Any) -> dict[str, Any]:
    """The smallest cluster there is: one worker that does both phases."""
    own = {"name": "mixed", "role": "mixed", "kvMemory": "64Mi", **pool}
    return quickstart(model, pools=[own])


def worker(**container: Any) -> dict[str, Any]:
    return {"podTemplate": {"spec": {"containers": [{"name": "worker", **container}]}}}


def tells_the_fix(operated: Operated, condition: str) -> None:
    assert "Fix: " in operated.condition(condition)["message"]


def test_a_pool_that_no_node_takes(operated: Operated, tiny_model: Path) -> None:
    operated.apply(mixed(tiny_model, nodeSelector={"gpu.example.com/type": "b300"}))
    words = "didn't match Pod's node affinity/selector"
    operated.wait("CapacityAvailable", "Unschedulable", words, within_s=60)
    tells_the_fix(operated, "CapacityAvailable")
    operated.apply(mixed(tiny_model))
    operated.wait_until_complete()
    operated.wait("CapacityAvailable", "Scheduled")


def test_an_image_that_is_not_there(operated: Operated, tiny_model: Path) -> None:
    operated.apply(mixed(tiny_model, **worker(image="registry.example/none:v1")))
    operated.wait("PoolsReady", "ImageFailed", "registry.example/none:v1")
    tells_the_fix(operated, "PoolsReady")
    operated.apply(mixed(tiny_model))
    operated.wait_until_complete()


def test_a_model_that_does_not_load(operated: Operated, tiny_model: Path, tmp_path: Path) -> None:
    for file in tiny_model.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = next(tmp_path.glob("*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    operated.apply(mixed(tmp_path))
    operated.wait("PoolsReady", "ContainerFailing", "model-corrupt")
    tells_the_fix(operated, "PoolsReady")
    weights.write_bytes(whole)
    operated.wait_until_complete()


def test_a_quota_that_refuses(operated: Operated, tiny_model: Path) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few"},
        "spec": {"hard": {"pods": "1", "count/services": "1"}},
    }
    operated.machine.apply(quota, namespace=operated.namespace)
    operated.apply(mixed(tiny_model))
    operated.wait("CapacityAvailable", "QuotaExceeded", "exceeded quota: few")
    tells_the_fix(operated, "CapacityAvailable")
    operated.kubectl("delete", "resourcequota", "few")
    operated.wait_until_complete()


def test_another_manager_that_declares_our_fields(operated: Operated, tiny_model: Path) -> None:
    operated.apply(mixed(tiny_model))
    operated.wait_until_complete()
    theirs = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "quickstart-mixed"},
        "spec": {"maxUnavailable": 7},
    }
    apply = ("apply", "--server-side", "--force-conflicts", "--field-manager=rogue", "-f", "-")
    scoped = ("-n", operated.namespace)
    done = operated.machine.kubectl(*apply, *scoped, objects=[theirs])
    assert done.returncode == 0, done.stderr
    operated.wait("Progressing", "FieldConflict", "rogue")
    tells_the_fix(operated, "Progressing")
    assert operated.condition("Ready")["status"] == "True"

    given_up = copy.deepcopy(theirs)
    del given_up["spec"]["maxUnavailable"]
    done = operated.machine.kubectl(*apply, *scoped, objects=[given_up])
    assert done.returncode == 0, done.stderr
    operated.wait_until_complete()
    own = operated.machine.get("pdb", "quickstart-mixed", *scoped)
    assert own["spec"]["maxUnavailable"] == 1


def test_an_object_of_somebody_else_is_not_taken(operated: Operated, tiny_model: Path) -> None:
    scoped = ("-n", operated.namespace)
    operated.kubectl("create", "serviceaccount", "quickstart")
    theirs = operated.machine.get("serviceaccount", "quickstart", *scoped)
    operated.apply(mixed(tiny_model))
    operated.wait("Progressing", "NameTaken", "ServiceAccount quickstart")
    tells_the_fix(operated, "Progressing")
    assert operated.machine.get("serviceaccount", "quickstart", *scoped) == theirs
    operated.kubectl("delete", "serviceaccount", "quickstart")
    operated.wait_until_complete()


def test_a_template_that_the_api_server_refuses(operated: Operated, tiny_model: Path) -> None:
    bad = {"podTemplate": {"spec": {"restartPolicy": "Never"}}}
    operated.apply(mixed(tiny_model, **bad))
    operated.wait("Progressing", "ObjectRefused", "restartPolicy")
    tells_the_fix(operated, "Progressing")
    operated.apply(mixed(tiny_model))
    operated.wait_until_complete()


def test_a_path_that_no_node_has_a_place_for(operated: Operated, tiny_model: Path) -> None:
    operated.apply(mixed(Path("models/tiny")))
    operated.wait("Ready", "InvalidSpec", "spec.model.path")
    tells_the_fix(operated, "Ready")
    operated.apply(mixed(tiny_model))
    operated.wait_until_complete()


def test_rdma_that_is_required_and_not_there(operated: Operated, tiny_model: Path) -> None:
    document = mixed(tiny_model)
    document["spec"]["transfer"] = {
        "rdma": {"resource": "rdma/hca"},
        "requireRdma": True,
        "tls": {"mode": "Plaintext"},
    }
    operated.apply(document)
    operated.wait("PoolsReady", "ContainerFailing", "spec.transfer.requireRdma")
    operated.apply(mixed(tiny_model))
    operated.wait_until_complete()


def test_an_api_server_that_is_away(operated: Operated, tiny_model: Path) -> None:
    operated.apply(mixed(tiny_model))
    operated.wait_until_complete()
    operated.answers(1)
    url, plane = operated.url, operated.machine.plane
    plane.stop_api_server()
    try:
        until_s = time.monotonic() + AWAY_S
        while time.monotonic() < until_s:
            operated.answers(1, url=url)
            time.sleep(1)
    finally:
        plane.start_api_server()
    operated.apply(mixed(tiny_model, maxSequences=8))
    operated.wait_until_complete()
    operated.answers(1)
