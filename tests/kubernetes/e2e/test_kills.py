"""kill -9 of the operator at any moment: whatever it has begun is finished, and nothing twice."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splitwise_core.manifest import parse_cluster
from splitwise_operator.kinds import APPLIED
from splitwise_operator.render import render
from tests.support.cluster import eventually
from tests.support.machine import Machine
from tests.support.operated import FOLLOWING, Operated, quickstart
from tests.support.ports import free_port

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

CRDS = Path(__file__).parents[3] / "crds"
KILLS = 5
"""For each of: create, scale, rollout, delete."""
SOON_S = 3.0


class Killed:
    """An operator that is killed at random moments and started again at once."""

    def __init__(self, machine: Machine, namespace: str, seed: int) -> None:
        self._draw = random.Random(seed)
        self._environment = os.environ | {"KUBECONFIG": str(machine.kubeconfig)}
        self._command = [
            str(Path(sys.executable).parent / "splitwise-operator"),
            f"--namespace={namespace}",
            f"--listen=127.0.0.1:{free_port()}",
            f"--lease={namespace}/operator",
            "--identity=killed",
        ]
        self._log = (machine.directory / "killed.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdout=self._log, stderr=self._log
        )

    def kill(self) -> None:
        assert self._process is not None
        assert self._process.poll() is None, "it has ended by itself"
        self._process.kill()
        self._process.wait()

    def kill_often(self) -> None:
        """At any moment: while it starts, while it writes, and when it has nothing to do."""
        for _ in range(KILLS):
            time.sleep(self._draw.uniform(0, 1) ** 2 * 8)
            self.kill()
            self.start()


@pytest.fixture
def killed(cluster_machine: Machine, namespace: str) -> Iterator[Killed]:
    cluster_machine.define(CRDS)
    made = Killed(cluster_machine, namespace, seed=11)
    made.start()
    yield made
    made.kill()


def is_whole(cluster: Operated, document: dict[str, Any]) -> None:
    """There is what the spec asks for, once, of this cluster, and nothing else."""
    meta = {"name": cluster.name, "namespace": cluster.namespace}
    rendered = render(parse_cluster(document | {"metadata": meta}))
    expected = sorted((own["kind"], own["metadata"]["name"]) for own in rendered)
    there = cluster.objects()
    assert sorted((own["kind"], own["metadata"]["name"]) for own in there) == expected
    uid = cluster.get()["metadata"]["uid"]
    assert {own["metadata"]["ownerReferences"][0]["uid"] for own in there} == {uid}


def test_an_operator_that_is_killed_again_and_again(
    killed: Killed, cluster_machine: Machine, namespace: str, tiny_model: Path
) -> None:
    cluster = Operated(cluster_machine, namespace)
    document = quickstart(tiny_model)
    cluster.apply(document)
    killed.kill_often()
    cluster.wait_until_complete()
    is_whole(cluster, document)

    cluster.kubectl("scale", "swp/quickstart-prompt", "--replicas=2")
    killed.kill_often()
    cluster.wait_until_complete()
    is_whole(cluster, document)
    assert len(cluster.pods("prompt")) == 2
    cluster.kubectl("scale", "swp/quickstart-prompt", "--replicas=1")

    document["spec"]["model"]["maxLength"] = 1024
    cluster.apply(document)
    killed.kill_often()
    cluster.wait_until_complete()
    is_whole(cluster, document)
    assert len(cluster.pods()) == 4
    cluster.answers()

    cluster.kubectl("delete", "swc", "quickstart", "--wait=false")
    killed.kill_often()
    everything = (*APPLIED, *FOLLOWING)
    eventually(lambda: not cluster.objects(everything), 60, cluster.report)
