"""Small Kubernetes objects for tests: pods of Python programs, Services, volumes."""

from pathlib import Path
from typing import Any, Final

Object = dict[str, Any]

PAUSE: Final = "import signal; signal.pause()"
"""A program that does nothing until it is ended."""


def field(name: str, path: str) -> Object:
    """A variable with a field of the pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def container(code: str, name: str = "main", **more: Any) -> Object:
    """A container that runs Python."""
    env = [field("POD", "metadata.name"), field("IP", "status.podIP")]
    command = ["python3", "-S", "-u", "-c", code]
    return {"name": name, "image": "python", "command": command, "env": env, **more}


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    """A Pod that is not long to be waited for at its end."""
    whole = {"containers": list(containers), "terminationGracePeriodSeconds": 5, **spec}
    meta = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": whole}


def service(name: str, spec: Object) -> Object:
    """A Service."""
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def volume(name: str, directory: Path) -> list[Object]:
    """A PersistentVolume that is a directory, and the claim to it."""
    size = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    has = {"capacity": size, "hostPath": {"path": str(directory)}, **common}
    wants = {"resources": {"requests": size}, "volumeName": name, **common}
    kinds = (("PersistentVolume", name, has), ("PersistentVolumeClaim", "models", wants))
    return [
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": own}, "spec": spec}
        for kind, own, spec in kinds
    ]


def condition(status: Object, kind: str) -> Object:
    """One of a status's conditions, or an empty one."""
    return next((own for own in status.get("conditions", []) if own["type"] == kind), {})
