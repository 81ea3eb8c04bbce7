"""A pod's volumes as directories of this machine, filled from what the API server has."""

import base64
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.kubelet.api import Api, Object, Refused

READ_ONLY: Final = ("configMap", "secret", "projected", "downwardAPI")
"""Volumes that a container cannot write, whatever its mount says."""

_KINDS: Final = {"configMap": "configmaps", "secret": "secrets"}


class NotYet(Exception):
    """Something that the pod needs is not there; it may come. `reason` is for its status."""

    def __init__(self, message: str, reason: str = "ContainerCreating") -> None:
        super().__init__(message)
        self.reason = reason


async def make_volumes(api: Api, pod: Object, directory: Path) -> dict[str, Path]:
    """A directory for each volume of the pod. Raises NotYet, or what Api raises."""
    made: dict[str, Path] = {}
    for number, volume in enumerate(pod["spec"].get("volumes", [])):
        if "hostPath" in volume:
            made[volume["name"]] = _host_path(volume["hostPath"])
        elif "persistentVolumeClaim" in volume:
            claim = volume["persistentVolumeClaim"]["claimName"]
            made[volume["name"]] = await _claimed(api, pod["metadata"]["namespace"], claim)
        else:
            path = directory / str(number)
            if volume.get("emptyDir", {}).get("medium") == "Memory":
                shutil.rmtree(path, ignore_errors=True)  # what a killed kubelet has left
            path.mkdir(parents=True, exist_ok=True)
            _write(path, await _files(api, pod, volume))
            made[volume["name"]] = path
    return made


async def refresh_volumes(api: Api, pod: Object, made: Mapping[str, Path]) -> None:
    """Writes what has changed in ConfigMaps and Secrets. Raises as `make_volumes`."""
    for volume in pod["spec"].get("volumes", []):
        sources = volume.get("projected", {}).get("sources", [volume])
        if all(any(kind in source for kind in _KINDS) for source in sources):  # tokens last
            _write(made[volume["name"]], await _files(api, pod, volume))


async def read_keys(api: Api, namespace: str, kind: str, name: str) -> dict[str, bytes] | None:
    """The keys of a `configMap` or `secret`, or None when it is not there."""
    try:
        found = await api.get(f"/api/v1/namespaces/{namespace}/{_KINDS[kind]}/{name}")
    except Refused as refused:
        if refused.code == 404:
            return None
        raise
    if kind == "secret":
        return {key: base64.b64decode(text) for key, text in found.get("data", {}).items()}
    binary = {key: base64.b64decode(text) for key, text in found.get("binaryData", {}).items()}
    return {key: text.encode() for key, text in found.get("data", {}).items()} | binary


def _host_path(source: Mapping[str, Any]) -> Path:
    path, kind = Path(source["path"]), source.get("type", "")
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    if not path.exists() or (kind == "Directory" and not path.is_dir()):
        raise NotYet(f"hostPath type check failed: {path} is not a directory")
    return path


async def _claimed(api: Api, namespace: str, claim: str) -> Path:
    found = await api.get(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}")
    if found["status"].get("phase") != "Bound":
        raise NotYet(f'PersistentVolumeClaim "{claim}" is not bound')
    volume = await api.get(f"/api/v1/persistentvolumes/{found['spec']['volumeName']}")
    source = volume["spec"].get("hostPath") or volume["spec"].get("local")
    if source is None:
        raise NotYet(f"PersistentVolume {volume['metadata']['name']} is neither hostPath nor local")
    return _host_path(source)


async def _files(api: Api, pod: Object, volume: Object) -> dict[str, bytes]:
    """The files of an emptyDir (none), a ConfigMap, a Secret, or several of them projected."""
    sources = volume["projected"]["sources"] if "projected" in volume else [volume]
    files: dict[str, bytes] = {}
    for source in sources:
        if "serviceAccountToken" in source:
            token = source["serviceAccountToken"]
            files[token["path"]] = await _token(api, pod, token)
        elif "downwardAPI" in source:
            files |= _downward(pod, source["downwardAPI"].get("items", []))
        for kind in _KINDS:
            if kind in source:
                files |= await _keys(api, pod["metadata"]["namespace"], kind, source[kind])
    return files


async def _keys(api: Api, namespace: str, kind: str, source: Object) -> dict[str, bytes]:
    name = source.get("name") or source["secretName"]
    keys = await read_keys(api, namespace, kind, name)
    if keys is None:
        if source.get("optional"):
            return {}
        raise NotYet(f'{kind.lower()} "{name}" not found')
    if "items" not in source:
        return keys
    return {item["path"]: keys[item["key"]] for item in source["items"] if item["key"] in keys}


async def _token(api: Api, pod: Object, wanted: Object) -> bytes:
    meta = pod["metadata"]
    bound = {"kind": "Pod", "apiVersion": "v1", "name": meta["name"], "uid": meta["uid"]}
    audiences = [wanted["audience"]] if "audience" in wanted else []
    spec = {
        "audiences": audiences,
        "expirationSeconds": wanted.get("expirationSeconds", 3600),
        "boundObjectRef": bound,
    }
    account = pod["spec"]["serviceAccountName"]
    path = f"/api/v1/namespaces/{meta['namespace']}/serviceaccounts/{account}/token"
    made = await api.create(path, {"spec": spec})
    return str(made["status"]["token"]).encode()


def _downward(pod: Object, items: Iterable[Object]) -> dict[str, bytes]:
    """Fields of metadata; labels and annotations as lines of key="value"."""
    files: dict[str, bytes] = {}
    for item in items:
        value = pod["metadata"].get(item["fieldRef"]["fieldPath"].removeprefix("metadata."), "")
        if isinstance(value, dict):
            value = "\n".join(f'{key}="{text}"' for key, text in sorted(value.items()))
        files[item["path"]] = str(value).encode()
    return files


def _write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Each file in one step: a reader sees the old or the new content."""
    for name, content in files.items():
        file = directory / name
        if file.exists() and file.read_bytes() == content:
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.new")
        fresh.write_bytes(content)
        fresh.replace(file)
