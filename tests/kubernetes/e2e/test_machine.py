"""The tests' own cluster is one: what a pod may expect of Kubernetes, it gets here too."""

import json
import time
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support.kube_objects import PAUSE, Object, condition, container, pod, service, volume
from tests.support.machine import Machine

pytestmark = [pytest.mark.kubernetes, pytest.mark.e2e]

SERVER = """
import http.server, os, signal, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{os.environ['POD']}: {open('/run/web/note').read()}".encode())
    def log_message(self, *_):
        pass
def end(*_):
    print('told to end, the hook has', 'run' if os.path.exists('/run/web/stopping') else 'not run')
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
http.server.ThreadingHTTPServer((os.environ['IP'], 8000), Answer).serve_forever()
"""
SIDECAR = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(print('told to end', flush=True)))
open('/run/web/note', 'w').write('from the sidecar')
signal.pause()
"""


def web(replicas: int) -> list[Object]:
    """A Deployment with a native sidecar, and two Services of it."""
    mounts = [{"name": "run", "mountPath": "/run/web"}]
    written = {"exec": {"command": ["test", "-e", "/run/web/note"]}, "periodSeconds": 1}
    answers = {"httpGet": {"path": "/", "port": "http"}, "periodSeconds": 1}
    sidecar = container(SIDECAR, "side", volumeMounts=mounts, startupProbe=written)
    server = container(SERVER, volumeMounts=mounts, readinessProbe=answers)
    server["ports"] = [{"name": "http", "containerPort": 8000}]
    server["lifecycle"] = {"preStop": {"exec": {"command": ["touch", "/run/web/stopping"]}}}
    template = pod("web", server, volumes=[{"name": "run", "emptyDir": {"medium": "Memory"}}])
    template["spec"]["initContainers"] = [sidecar | {"restartPolicy": "Always"}]
    selector = {"app": "web"}
    ports = [{"name": "http", "port": 8000, "targetPort": "http"}]
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": selector}, "spec": template["spec"]},
    }
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec},
        service("web", {"selector": selector, "ports": ports}),
        service("web-each", {"selector": selector, "ports": ports, "clusterIP": "None"}),
    ]


def _has_two(kube: Machine, namespace: str, service: str) -> bool:
    return len(kube.endpoints(namespace, service)) == 2


def test_a_deployment_is_served_and_scaled(cluster_machine: Machine, namespace: str) -> None:
    kube = cluster_machine
    kube.apply(*web(2), namespace=namespace)
    for each in ("web", "web-each"):
        kube.soon(partial(_has_two, kube, namespace, each), namespace)
    pods = kube.pods(namespace, "app=web")
    addresses = sorted(own["status"]["podIP"] for own in pods)
    assert kube.endpoints(namespace, "web-each") == addresses
    assert all(address.startswith("10.244.") for address in addresses)

    address = kube.get("service", "web", f"--namespace={namespace}")["spec"]["clusterIP"]
    names = {own["metadata"]["name"] for own in pods}
    wanted = {f"{name}: from the sidecar" for name in names}
    heard: set[str] = set()

    def all_answer() -> bool:
        heard.add(httpx.get(f"http://{address}:8000", timeout=5).text)
        return heard >= wanted

    kube.soon(all_answer, namespace)
    assert heard == wanted

    kube.kubectl("scale", "deployment/web", "--replicas=1", f"--namespace={namespace}")
    kube.soon(lambda: len(kube.pods(namespace, "app=web")) == 1, namespace)
    (gone,) = names - {own["metadata"]["name"] for own in kube.pods(namespace)}
    assert kube.log(namespace, gone, "main") == "told to end, the hook has run\n"
    assert kube.log(namespace, gone, "side") == "told to end\n"
    kube.soon(lambda: len(kube.endpoints(namespace, "web-each")) == 1, namespace)


def test_a_crash_is_told_and_tried_again(cluster_machine: Machine, namespace: str) -> None:
    kube = cluster_machine
    writes = "open('/dev/termination-log', 'w').write('no such model'); raise SystemExit(2)"
    logs = container("print('the last words'); raise SystemExit(3)", "logs")
    logs["terminationMessagePolicy"] = "FallbackToLogsOnError"
    kube.apply(pod("crash", container(writes), logs), namespace=namespace)

    told: Object = {}

    def all_back_off() -> bool:
        told.update(kube.pod_status(namespace, "crash"))
        every = told.get("containerStatuses", [])
        reasons = [own["state"].get("waiting", {}).get("reason") for own in every]
        return reasons == ["CrashLoopBackOff"] * 2 and every[0]["restartCount"] >= 2

    kube.soon(all_back_off, namespace)
    ends = [own["lastState"]["terminated"] for own in told["containerStatuses"]]
    assert [end["exitCode"] for end in ends] == [2, 3]
    assert [end["message"] for end in ends] == ["no such model", "the last words\n"]
    assert condition(told, "Ready")["reason"] == "ContainersNotReady"


def test_an_image_that_is_not_there_is_waited_for(cluster_machine: Machine, namespace: str) -> None:
    kube = cluster_machine
    for name in ("comes", "corrected"):
        own = container(PAUSE, image=f"registry.example/{name}:v9")
        kube.apply(pod(name, own), namespace=namespace)
        expected = f'Back-off pulling image "registry.example/{name}:v9"'

        def backs_off(name: str = name, expected: str = expected) -> bool:
            (told,) = kube.pod_status(namespace, name).get("containerStatuses", [{"state": {}}])
            waiting = told["state"].get("waiting", {})
            return waiting.get("reason") == "ImagePullBackOff" and expected in waiting["message"]

        kube.soon(backs_off, namespace)
        assert kube.pod_status(namespace, name)["phase"] == "Pending"
    kube.images.write(kube.images.read() | {"registry.example/comes:v9"})
    kube.kubectl("set", "image", "pod/corrected", "main=python", f"--namespace={namespace}")
    for name in ("comes", "corrected"):
        kube.soon(partial(kube.is_ready, namespace, name), namespace)


def test_what_no_node_can_take_says_why(cluster_machine: Machine, namespace: str) -> None:
    kube = cluster_machine
    limits = {"limits": {"nvidia.com/gpu": "9"}}
    many = pod("many", container("", resources=limits))
    nowhere = pod("nowhere", container(""), nodeSelector={"gpu.example.com/type": "b300"})
    kube.apply(many, nowhere, namespace=namespace)
    expected = {
        "many": "Insufficient nvidia.com/gpu",
        "nowhere": "didn't match Pod's node affinity",
    }
    for name, said in expected.items():

        def says(name: str = name, said: str = said) -> bool:
            told = condition(kube.pod_status(namespace, name), "PodScheduled")
            return said in told.get("message", "") and told["reason"] == "Unschedulable"

        kube.soon(says, namespace)


def test_a_restricted_pod_has_its_volume_and_no_more(
    cluster_machine: Machine, namespace: str, tmp_path: Path
) -> None:
    kube = cluster_machine
    label = "pod-security.kubernetes.io/enforce=restricted"
    kube.kubectl("label", "namespace", namespace, label)
    refused = kube.kubectl("create", "-n", namespace, "-f", "-", objects=[pod("x", container(""))])
    assert "violates PodSecurity" in refused.stderr

    code = """
open('/models/weights', 'w').write('seven')
try:
    open('/etc/here', 'w')
except OSError as error:
    print(error.strerror)
import signal; signal.pause()
"""
    limited = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    mounts = [{"name": "models", "mountPath": "/models"}]
    own = container(code, securityContext=limited, volumeMounts=mounts)
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}]
    kube.apply(*volume(f"{namespace}-models", tmp_path), namespace=namespace)
    kube.apply(pod("restricted", own, volumes=volumes), namespace=namespace)
    kube.soon(lambda: kube.is_ready(namespace, "restricted"), namespace)
    said = "Read-only file system\n"
    kube.soon(lambda: kube.log(namespace, "restricted", "main") == said, namespace)
    assert (tmp_path / "weights").read_text() == "seven"


READER = """
import json
from kubernetes import client, config
config.load_incluster_config()
namespace = open('/var/run/secrets/kubernetes.io/serviceaccount/namespace').read()
pods = client.CoreV1Api().list_namespaced_pod(namespace).items
print(json.dumps([pod.metadata.name for pod in pods]))
"""


def test_a_job_speaks_to_the_api_server_as_its_account(
    cluster_machine: Machine, namespace: str, tmp_path: Path
) -> None:
    kube = cluster_machine
    scoped = f"--namespace={namespace}"
    kube.kubectl("create", "serviceaccount", "reader", scoped)
    kube.kubectl("create", "role", "reader", "--verb=list", "--resource=pods", scoped)
    bound = f"--serviceaccount={namespace}:reader"
    kube.kubectl("create", "rolebinding", "reader", "--role=reader", bound, scoped)
    kube.kubectl("create", "configmap", "words", "--from-literal=word=of the map", scoped)
    word = {"name": "WORD", "valueFrom": {"configMapKeyRef": {"name": "words", "key": "word"}}}
    step = container("import os; print(os.environ['WORD'])", "step")
    step["env"] = [word]
    beside = container(PAUSE, "side", restartPolicy="Always")
    reads = container(READER) | {"command": ["python3", "-c", READER]}
    spec = pod("", reads, serviceAccountName="reader", restartPolicy="Never")["spec"]
    spec["initContainers"] = [step, beside]
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "read"}}
    kube.apply(job | {"spec": {"template": {"spec": spec}}}, namespace=namespace)

    def is_complete() -> bool:
        status: Object = kube.get("job", "read", scoped)["status"]
        return status.get("succeeded") == 1

    kube.soon(is_complete, namespace)
    (name,) = [own["metadata"]["name"] for own in kube.pods(namespace)]
    assert json.loads(kube.log(namespace, name, "main")) == [name]
    assert kube.log(namespace, name, "step") == "of the map\n"
    events = kube.plane.requests_of(f"system:serviceaccount:{namespace}:reader")
    assert [(event["verb"], event["objectRef"]["resource"]) for event in events] == [
        ("list", "pods")
    ]
    own = f"--kubeconfig={kube.plane.kubeconfig_for(namespace, 'reader', tmp_path)}"
    assert kube.kubectl("get", "pods", own).returncode == 0
    assert "forbidden" in kube.kubectl("get", "secrets", own).stderr


def test_pods_outlive_an_api_server_that_is_away(cluster_machine: Machine, namespace: str) -> None:
    kube = cluster_machine
    code = """
import pathlib, time
while not pathlib.Path('/run/web/end').exists():
    time.sleep(0.1)
raise SystemExit(1)
"""
    path = kube.directory / namespace
    path.mkdir()
    volumes = [{"name": "run", "hostPath": {"path": str(path)}}]
    mounts = [{"name": "run", "mountPath": "/run/web"}]
    codes = {"stays": code, "other": SIDECAR}
    for name, own in codes.items():
        made = pod(name, container(own, volumeMounts=mounts), volumes=volumes)
        kube.apply(made, namespace=namespace)
    for name in codes:
        kube.soon(partial(kube.is_ready, namespace, name), namespace)
    before = kube.pod_status(namespace, "other")["containerStatuses"]
    kube.plane.stop_api_server()
    time.sleep(2.5)
    (path / "end").touch()  # ends one container while nobody can be told
    time.sleep(2.5)
    (path / "end").unlink()
    kube.plane.start_api_server()

    def was_told() -> bool:
        told = kube.pod_status(namespace, "stays")["containerStatuses"][0]
        return told["restartCount"] >= 1 and told["ready"] is True

    kube.soon(was_told, namespace)
    assert kube.pod_status(namespace, "other")["containerStatuses"] == before
    assert kube.log(namespace, "other", "main") == ""
    kube.apply(pod("new", container(PAUSE)), namespace=namespace)
    kube.soon(lambda: kube.is_ready(namespace, "new"), namespace)


def test_a_node_that_lost_power_starts_its_pods_anew(
    cluster_machine: Machine, namespace: str
) -> None:
    kube = cluster_machine
    code = "import signal; print('up'); signal.pause()"
    kube.apply(pod("here", container(code), nodeName="gpu-h100-1"), namespace=namespace)
    kube.soon(lambda: kube.log(namespace, "here", "main") == "up\n", namespace)
    kube.kill_node("gpu-h100-1")
    kube.start_node("gpu-h100-1")

    def is_new() -> bool:
        own = kube.pod_status(namespace, "here")["containerStatuses"][0]
        return own["restartCount"] == 1 and own["ready"] is True

    kube.soon(is_new, namespace)
    kube.soon(lambda: kube.log(namespace, "here", "main") == "up\nup\n", namespace)
