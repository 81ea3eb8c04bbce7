"""A SplitwiseCluster on a machine with an operator, as its user sees it: through kubectl."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import openai
import psutil
import yaml

from splitwise_core.tiny_tasks import counting
from splitwise_operator.kinds import APPLIED, CLUSTER, POD, Kind
from tests.helm.release import NAMESPACE
from tests.support.cluster import eventually
from tests.support.machine import Machine
from tests.support.netns import processes_inside

SAMPLES: Final = Path(__file__).parents[2] / "manifests" / "samples"
READY_S: Final = 120.0
ANSWER_S: Final = 60.0
GONE_S: Final = 120.0
FOLLOWING: Final = (
    POD,
    Kind("ReplicaSet", "apps/v1", "replicasets"),
    Kind("EndpointSlice", "discovery.k8s.io/v1", "endpointslices"),
)
"""What Kubernetes makes of the operator's objects."""

Object = dict[str, Any]


def quickstart(model: Path, **changes: Any) -> Object:
    """The sample, with the model where it is on this machine."""
    document: Object = yaml.safe_load((SAMPLES / "quickstart.yaml").read_text())
    document["spec"]["model"]["path"] = str(model)
    document["spec"] |= changes
    return document


@dataclass(frozen=True, slots=True)
class Operated:
    """The cluster of a name, in a namespace."""

    machine: Machine
    namespace: str
    name: str = "quickstart"

    def apply(self, document: Object) -> None:
        """Applies a manifest here, under our name."""
        meta = document["metadata"] | {"name": self.name}
        self.machine.apply(document | {"metadata": meta}, namespace=self.namespace)

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints, in the namespace; a failure fails the test."""
        done = self.machine.kubectl(*arguments, "-n", self.namespace)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self) -> Object:
        """The SplitwiseCluster."""
        return self.machine.plane.read(CLUSTER.path(self.namespace, self.name))

    def condition(self, kind: str) -> Mapping[str, str]:
        """A condition of it; empty when it says nothing yet."""
        return _condition(self.get(), kind)

    def wait(self, kind: str, reason: str, words: str = "", within_s: float = READY_S) -> None:
        """Waits until a condition has a reason, its message has words, and it is of the spec."""

        def holds() -> bool:
            own = self.get()
            found, generation = _condition(own, kind), own["metadata"]["generation"]
            is_of_now = found.get("observedGeneration") == generation
            return is_of_now and found["reason"] == reason and words in found["message"]

        eventually(holds, within_s, self.report)

    def report(self) -> str:
        """For the message of a failed test."""
        told = self.machine.kubectl("get", "swc", "-o", "yaml", "-n", self.namespace).stdout
        return f"{told}\n{self.machine.report(self.namespace)}\n{self.machine.report(NAMESPACE)}"

    def wait_until_complete(self, within_s: float = READY_S) -> None:
        """Waits until it is as its spec says, and serves."""
        self.wait("Progressing", "Complete", within_s=within_s)
        self.wait("Ready", "Serving", within_s=within_s)

    def wait_until_measured(self, within_s: float = READY_S) -> None:
        """Waits until status says of every pair of workers how KV moves between them."""

        def holds() -> bool:
            found = self.get()["status"].get("transfer", [])
            return bool(found) and all(one["measured"] == one["pairs"] for one in found)

        eventually(holds, within_s, self.report)

    def objects(self, kinds: Sequence[Kind] = APPLIED) -> list[Object]:
        """Everything of these kinds that bears its label."""
        query = {"labelSelector": f"splitwise.dev/cluster={self.name}"}
        found = []
        for kind in kinds:
            listed = self.machine.plane.read(kind.path(self.namespace), query)["items"]
            found += [{"kind": kind.name, **item} for item in listed]
        return found

    def versions(self) -> dict[str, tuple[str, int]]:
        """resourceVersion and generation of it and all its objects."""
        return {
            f"{own['kind']}/{own['metadata']['name']}": (
                own["metadata"]["resourceVersion"],
                own["metadata"].get("generation", 0),
            )
            for own in [self.get(), *self.objects()]
        }

    def pods(self, pool: str = "") -> list[Object]:
        """Its pods, or those of a pool."""
        every = self.objects([POD])
        return [p for p in every if pool in ("", p["metadata"]["labels"]["splitwise.dev/pool"])]

    def processes(self, program: str, pool: str) -> list[psutil.Process]:
        """Those of a pool's pods that run such a program, as `splitwise-worker`.

        To be asked inside the network: in another one, addresses are somebody else's.
        """
        addresses = [pod["status"]["podIP"] for pod in self.pods(pool)]
        listens = tuple(f"--listen={one}:" for one in addresses)
        return [
            process
            for process in processes_inside(program)
            if any(word.startswith(listens) for word in process.cmdline())
        ]

    @property
    def url(self) -> str:
        """The API, by the router's ClusterIP."""
        service = self.machine.get("service", f"{self.name}-router", "-n", self.namespace)["spec"]
        return f"http://{service['clusterIP']}:{service['ports'][0]['port']}/v1"

    def decisions(self) -> list[Object]:
        """The last decisions of the autoscaler, as status has them."""
        found: list[Object] = self.get().get("status", {}).get("scaling", [])
        return found

    def looks(self) -> list[Object]:
        """What the operator was told of it, and decided, look by look."""
        (pod,) = self.machine.pods(NAMESPACE)
        page = httpx.get(f"http://{pod['status']['podIP']}:8080/scaling", timeout=30).json()
        found: list[Object] = page[f"{self.namespace}/{self.name}"]
        return found

    def answers(self, questions: int = 4, url: str = "") -> None:
        """Asserts that an OpenAI client gets right answers, as a stream."""
        draw = random.Random(3)
        with openai.OpenAI(
            base_url=url or self.url, api_key="none", max_retries=0, timeout=ANSWER_S
        ) as client:
            for question in (counting(draw) for _ in range(questions)):
                stream = client.completions.create(
                    model="tiny",
                    prompt=question.prompt,
                    max_tokens=question.max_tokens,
                    temperature=0,
                    stream=True,
                )
                text = "".join(chunk.choices[0].text for chunk in stream if chunk.choices)
                assert text.strip() == question.answer


@contextmanager
def operated_in(machine: Machine, namespace: str, document: Object) -> Iterator[Operated]:
    """The cluster of a manifest, complete, in a namespace of its own; both go afterwards."""
    with machine.network.entered():
        assert machine.kubectl("create", "namespace", namespace).returncode == 0
        account = ("get", "serviceaccount/default", f"--namespace={namespace}")
        eventually(lambda: machine.kubectl(*account).returncode == 0, 60, lambda: namespace)
        made = Operated(machine, namespace)
        made.apply(document)
        made.wait_until_complete()
    try:
        yield made
    finally:
        with machine.network.entered():
            machine.kubectl("delete", "swc", "--all", f"--namespace={namespace}")
            eventually(lambda: not made.pods(), GONE_S, made.report)
            machine.kubectl("delete", "namespace", namespace, "--wait=false")


def _condition(own: Object, kind: str) -> Mapping[str, str]:
    conditions = own.get("status", {}).get("conditions", [])
    found: Mapping[str, str] = next((c for c in conditions if c["type"] == kind), {})
    return found
