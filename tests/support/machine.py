"""A whole Kubernetes cluster on this machine: real control plane, our kubelet, real addresses."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from tests.support.background import Background, running
from tests.support.cluster import eventually
from tests.support.control_plane import ControlPlane, control_plane
from tests.support.kube_objects import condition
from tests.support.kubelet.images import Images
from tests.support.kubelet.node import Node
from tests.support.netns import Network, network

ROOT: Final = Path(__file__).parents[2]
START_S: Final = 60.0
WITHIN_S: Final = 60.0
PROGRAMS: Final = ("kube-controller-manager", "kube-scheduler")
"""What a cluster needs beyond an API server alone."""
_GPUS: Final = {"nvidia.com/gpu": "8"}
_RDMA: Final = {"rdma/hca": "8"}
NODES: Final = (
    Node("cpu-1", 1, {}, {}),
    Node("gpu-a100-1", 2, {"gpu.example.com/type": "a100"}, _GPUS),
    Node("gpu-h100-1", 3, {"gpu.example.com/type": "h100"}, _GPUS | _RDMA),
)
IMAGES: Final = ("splitwise-worker", "splitwise-sidecar", "splitwise-router", "python")
"""What every node has from the start. An image holds nothing; commands are this machine's."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The cluster. All but its end is done inside its `network`."""

    plane: ControlPlane
    network: Network
    images: Images
    kubelets: Mapping[str, Background]
    directory: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.plane.kubeconfig

    def kubectl(
        self, *arguments: str, objects: list[dict[str, Any]] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """As the administrator; see ControlPlane."""
        return self.plane.kubectl(*arguments, objects=objects)

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get -o json` prints."""
        return self.plane.get(*arguments)

    def apply(self, *objects: dict[str, Any], namespace: str = "default") -> None:
        """Applies what must be taken as it is."""
        done = self.kubectl("apply", f"--namespace={namespace}", "-f", "-", objects=list(objects))
        assert done.returncode == 0, done.stderr

    def define(self, definitions: Path) -> None:
        """Applies the CustomResourceDefinitions of a directory, and waits until they are served."""
        applied = self.kubectl(
            "apply", "--server-side", "--force-conflicts", "-f", str(definitions)
        )
        assert applied.returncode == 0, applied.stderr
        established = ("--for=condition=Established", f"--timeout={START_S:.0f}s")
        waited = self.kubectl("wait", "crd", "--all", *established)
        assert waited.returncode == 0, waited.stderr

    def pods(self, namespace: str, selector: str = "") -> list[dict[str, Any]]:
        """The pods of a namespace, in the order of their names."""
        found = self.get("pods", f"--namespace={namespace}", f"--selector={selector}")["items"]
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def pod_status(self, namespace: str, name: str) -> dict[str, Any]:
        """A pod's status."""
        found: dict[str, Any] = self.get("pod", name, f"--namespace={namespace}").get("status", {})
        return found

    def is_ready(self, namespace: str, name: str) -> bool:
        """Whether a pod is."""
        return condition(self.pod_status(namespace, name), "Ready").get("status") == "True"

    def endpoints(self, namespace: str, service: str) -> list[str]:
        """The ready addresses of a Service."""
        own = f"--selector=kubernetes.io/service-name={service}"
        slices = self.get("endpointslices", f"--namespace={namespace}", own)["items"]
        every = [endpoint for each in slices for endpoint in each.get("endpoints") or []]
        return sorted(each["addresses"][0] for each in every if each["conditions"]["ready"])

    def soon(self, holds: Callable[[], bool], namespace: str, within_s: float = WITHIN_S) -> None:
        """Waits until it holds; else fails with what there is in the namespace."""
        eventually(holds, within_s, lambda: self.report(namespace))

    def log(self, namespace: str, pod: str, container: str) -> str:
        """All that a container has said, in all its runs."""
        found = self.directory.glob(f"nodes/*/logs/{namespace}.{pod}.{container}.log")
        return "".join(file.read_text(errors="replace") for file in found)

    def report(self, namespace: str) -> str:
        """For the message of a failed test: pods, events, and the end of each log."""
        told = [self.kubectl(*words, "-n", namespace).stdout for words in _TOLD]
        for file in sorted(self.directory.glob(f"nodes/*/logs/{namespace}.*.log")):
            told.append(f"--- {file.stem}\n{file.read_text(errors='replace')[-1500:]}")
        return "\n".join(told)

    def kill_node(self, name: str) -> None:
        """A node without power: its kubelet and all of its pods end at once, without a word."""
        kubelet = self.kubelets[name]
        assert kubelet.process is not None
        everything = psutil.Process(kubelet.process.pid).children(recursive=True)
        kubelet.kill()
        for process in everything:  # what containers have started outlives them otherwise
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def start_node(self, name: str) -> None:
        """The node has power again: what was bound to it is started anew."""
        self.kubelets[name].start()


_TOLD: Final = (("get", "pods", "-o", "wide"), ("get", "events", "--sort-by=.lastTimestamp"))


@contextmanager
def machine(programs: Path, directory: Path, nodes: Sequence[Node] = NODES) -> Iterator[Machine]:
    """Runs one in `directory`, with nothing installed. Needs root."""
    with network() as inside, ExitStack() as stack:
        with inside.entered():
            plane = stack.enter_context(control_plane(programs, directory, with_controllers=True))
            images = Images(directory / "images")
            images.write(IMAGES)
            kubelets = {node.name: _kubelet(plane, images, directory, node) for node in nodes}
            for program in (*kubelets.values(), _services(plane, directory)):
                stack.enter_context(running(program))
            made = Machine(plane, inside, images, kubelets, directory)
            _wait_until_ready(made)
        yield made


def _wait_until_ready(made: Machine) -> None:
    """Returns when pods can be made and scheduled. Raises AssertionError with the logs' ends."""

    def is_ready() -> bool:
        nodes = made.get("nodes")["items"]
        taints = [taint for node in nodes for taint in node["spec"].get("taints", [])]
        account = made.kubectl("get", "serviceaccount/default", "configmap/kube-root-ca.crt")
        return len(nodes) == len(made.kubelets) and not taints and account.returncode == 0

    def tell() -> str:
        return "\n".join(f"{name}: {own.tail()}" for name, own in made.kubelets.items())

    eventually(is_ready, START_S, tell)


def _kubelet(plane: ControlPlane, images: Images, directory: Path, node: Node) -> Background:
    own = directory / "nodes" / node.name
    own.mkdir(parents=True)
    node.write(own / "node.json")
    command = [
        *(sys.executable, "-m", "tests.support.kubelet"),
        f"--kubeconfig={plane.place.kubeconfig('kubelet')}",
        f"--node={own / 'node.json'}",
        f"--images={images.file}",
        f"--directory={own}",
    ]
    return Background(command, directory / f"kubelet.{node.name}.log", ROOT)


def _services(plane: ControlPlane, directory: Path) -> Background:
    command = [
        *(sys.executable, "-m", "tests.support.kubelet.services"),
        f"--kubeconfig={plane.place.kubeconfig('kubelet')}",
    ]
    return Background(command, directory / "services.log", ROOT)
