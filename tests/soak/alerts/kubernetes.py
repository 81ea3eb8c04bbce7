"""A cluster on Kubernetes with the operator of the chart, and what goes wrong in one."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil

from splitwise_operator.names import (
    KV_PORTS,
    SIDECAR_STATUS_PORT,
    WORKER_STATUS_PORT,
)
from tests.helm.release import NAMESPACE
from tests.soak.alerts.cause import Cause
from tests.support import kube_programs
from tests.support.asking import asked
from tests.support.cluster import eventually
from tests.support.installed import helm_for, installed
from tests.support.machine import Machine, machine
from tests.support.netns import processes_inside
from tests.support.operated import Operated, operated_in, quickstart
from tests.support.ports import free_port
from tests.support.watched import Watch, watching, write_targets

OWN: Final = "soak"
OBJECTIVES: Final = {"ttftSeconds": 5, "tbtSeconds": 2, "percentile": 90}
ROLE: Final = "clusterrole/splitwise-operator"
STATUS: Final = "splitwiseclusters/status"
MANY: Final = 80
LONG: Final = 900
LOCAL_TABLE: Final = ("lookup", "local")


class Kubernetes:
    """The cluster and the Prometheus that watches it and its operator."""

    name = "a cluster on Kubernetes"

    def __init__(self, cluster: Operated, watch: Watch, model: Path) -> None:
        self.cluster = cluster
        self.watch = watch
        self._model = model

    def load(self) -> AbstractContextManager[Counter[str]]:
        """Requests that are answered at once; it counts their statuses."""
        return asked(self._url)

    @property
    def _url(self) -> str:
        return self.cluster.url.removesuffix("/v1")

    def causes(self) -> list[Cause]:
        """In the order in which they can follow one another."""
        return [
            Cause(
                "a pool whose pods no node takes",
                ("SplitwisePoolPending", "SplitwiseClusterNotReady"),
                self._pool_without_nodes,
            ),
            Cause(
                "a load above what maxReplicas carry",
                ("SplitwiseScalingAtBound",),
                lambda: asked(self._url, MANY, LONG, output_tokens=1, different=10**6),
                within_s=120,
            ),
            Cause(
                "the worker of a scaled pool hangs (SIGSTOP)",
                ("SplitwiseScalingSignalsStale",),
                lambda: stopped(self.cluster.processes("splitwise-worker", "prompt")),
            ),
            Cause(
                "a token worker's ports for KV are closed to its peers",
                ("SplitwiseWorkerCutOff",),
                self._out_of_reach,
                within_s=150,
            ),
            Cause(
                "the operator may not write status",
                ("SplitwiseOperatorNotReconciling",),
                self._without_right_to_status,
            ),
            Cause(
                "the operator hangs (SIGSTOP)",
                ("SplitwiseOperatorDown",),
                lambda: stopped(processes_inside("splitwise-operator")),
            ),
        ]

    @contextmanager
    def _pool_without_nodes(self) -> Iterator[None]:
        document = watched_cluster(self._model)
        lost = {"name": "lost", "role": "token", "nodeSelector": {"disk": "none"}}
        document["spec"]["pools"].append(lost)
        self.cluster.apply(document)
        yield
        self.cluster.apply(watched_cluster(self._model))

    @contextmanager
    def _out_of_reach(self) -> Iterator[None]:
        address = self.cluster.pods("token")[0]["status"]["podIP"]
        shut = [
            ("to", address, "ipproto", "tcp", "dport", str(port), "prohibit") for port in KV_PORTS
        ]
        _rule("add", "pref", "100", *LOCAL_TABLE)  # or what is local is found before all rules
        _rule("del", "pref", "0", *LOCAL_TABLE)
        for one in shut:
            _rule("add", "pref", "10", *one)
        yield
        for one in shut:
            _rule("del", "pref", "10", *one)

    @contextmanager
    def _without_right_to_status(self) -> Iterator[None]:
        kube = self.cluster.machine
        rules = kube.get(ROLE)["rules"]
        less = [
            rule | {"resources": [one for one in rule["resources"] if one != STATUS]}
            for rule in rules
        ]
        patch = ("patch", ROLE, "--type=merge", "-p")
        self._must(*patch, json.dumps({"rules": [one for one in less if one["resources"]]}))
        document = watched_cluster(self._model)
        document["spec"]["ratio"] = {"min": 0.5, "max": 2}
        self.cluster.apply(document)
        yield
        self._must(*patch, json.dumps({"rules": rules}))

    def _must(self, *arguments: str) -> None:
        done = self.cluster.machine.kubectl(*arguments)
        assert done.returncode == 0, done.stderr


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """They hang meanwhile; who watches over them may end them for it."""
    assert processes
    for one in processes:
        one.suspend()
    try:
        yield
    finally:
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.resume()


def _rule(*words: str) -> None:
    subprocess.run(["ip", "rule", *words], check=True)


def watched_cluster(model: Path) -> dict[str, Any]:
    """A prompt pool that the operator scales to two workers at most, and two token workers."""
    document = quickstart(model, slo=OBJECTIVES)
    prompt = document["spec"]["pools"][0]
    del prompt["replicas"]
    windows = {"upWindowSeconds": 2, "downWindowSeconds": 10}
    prompt["autoscaling"] = {"by": "Load", "maxReplicas": 2, "behavior": windows}
    return document


@contextmanager
def kubernetes(model: Path, directory: Path, factor: int) -> Iterator[Kubernetes]:
    """With its rules hastened by `factor`. The calling thread is inside its network meanwhile."""
    programs, helm = kube_programs.programs(), kube_programs.helm_program()
    assert programs is not None, kube_programs.NEEDS
    assert helm is not None, kube_programs.NEEDS_HELM
    with ExitStack() as stack:
        kube = stack.enter_context(machine(programs, directory))
        stack.enter_context(installed(kube, helm_for(kube, helm, directory / "helm")))
        stack.enter_context(kube.network.entered())
        cluster = stack.enter_context(operated_in(kube, OWN, watched_cluster(model)))
        listen = f"127.0.0.1:{free_port()}"
        made = watching(directory, listen, [_operator_url(kube)], factor)
        watch = stack.enter_context(made)
        urls = [url for pod in cluster.pods() for url in _pages(pod)]
        write_targets(watch.targets, urls, namespace=OWN, cluster=cluster.name)
        eventually(lambda: watch.all_up(1 + len(urls)), 60, cluster.report)
        yield Kubernetes(cluster, watch, model)


def _operator_url(kube: Machine) -> str:
    pods = kube.pods(NAMESPACE)
    (pod,) = (one for one in pods if "deletionTimestamp" not in one["metadata"])
    return f"http://{pod['status']['podIP']}:8080/metrics"


def _pages(pod: dict[str, Any]) -> Iterator[str]:
    """Where a pod's containers tell their metrics."""
    is_router = pod["metadata"]["labels"]["splitwise.dev/pool"] == "router"
    for port in (8000,) if is_router else (WORKER_STATUS_PORT, SIDECAR_STATUS_PORT):
        yield f"http://{pod['status']['podIP']}:{port}/metrics"
