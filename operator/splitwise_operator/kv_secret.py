"""The Secret `<cluster>-kv`: what sidecars show each other, and who gets which part of it. Pure.

It always holds the key of capabilities, and in mode Auto the cluster's own certificates with their
authority. The authority's key is for whoever renews, and is mounted nowhere.
"""

import base64
from collections.abc import Mapping
from typing import Final

from splitwise_core.fields import GROUP
from splitwise_core.rpc.tls import CA_FILE, CERTIFICATE_FILE, KEY_FILE
from splitwise_core.spec import SplitwiseCluster
from splitwise_operator import names
from splitwise_operator.names import Object

CA_KEY_FILE: Final = "ca.key"
CAPABILITY_FILE: Final = "capability.key"
"""Keys in hexadecimal, a line each, newest first."""

DIRECTORY: Final = "/etc/splitwise/kv"
CAPABILITY_PATH: Final = f"{DIRECTORY}/{CAPABILITY_FILE}"
VOLUME: Final = "kv"
MOUNT: Final = {"name": VOLUME, "mountPath": DIRECTORY, "readOnly": True}

FILES: Final = (CA_FILE, CERTIFICATE_FILE, KEY_FILE, CA_KEY_FILE, CAPABILITY_FILE)
TLS_FILES: Final = (CA_FILE, CERTIFICATE_FILE, KEY_FILE)
_MODE: Final = 0o440
"""Root's, and to be read by the pod's own group."""


def secret_name(cluster: SplitwiseCluster) -> str:
    """The Secret's name."""
    return names.object_name(cluster, "kv")


def server_name(cluster: SplitwiseCluster) -> str:
    """The name in the certificates of all sidecars of the cluster."""
    meta = cluster.metadata
    own = f"{meta.name}.{meta.namespace}.kv.{GROUP}"
    return cluster.spec.transfer.tls.server_name or own


# ---- what pods get of it ----


def sidecar_volume(cluster: SplitwiseCluster) -> Object:
    """Certificates, if there are any, and the key of capabilities."""
    tls = cluster.spec.transfer.tls
    if tls.mode == "Secret":
        theirs = {"name": tls.secret_name, "items": _items(*TLS_FILES)}
        ours = {"name": secret_name(cluster), "items": _items(CAPABILITY_FILE)}
        sources = [{"secret": theirs}, {"secret": ours}]
        return {"name": VOLUME, "projected": {"sources": sources, "defaultMode": _MODE}}
    own = TLS_FILES if tls.mode == "Auto" else ()
    return _volume(cluster, *own, CAPABILITY_FILE)


def router_volume(cluster: SplitwiseCluster) -> Object:
    """The key of capabilities alone: routers move no KV."""
    return _volume(cluster, CAPABILITY_FILE)


def sidecar_arguments(cluster: SplitwiseCluster) -> dict[str, str]:
    """What a sidecar is told of its certificates; nothing where KV is not encrypted."""
    if cluster.spec.transfer.tls.mode == "Plaintext":
        return {}
    return {"tls-dir": DIRECTORY, "tls-name": server_name(cluster)}


def _volume(cluster: SplitwiseCluster, *files: str) -> Object:
    source = {"secretName": secret_name(cluster), "items": _items(*files), "defaultMode": _MODE}
    return {"name": VOLUME, "secret": source}


def _items(*files: str) -> list[Object]:
    return [{"key": file, "path": file} for file in files]


# ---- as an object of the API ----


def secret(cluster: SplitwiseCluster, files: Mapping[str, bytes]) -> Object:
    """The Secret with these files."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": names.metadata(cluster, secret_name(cluster)),
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }


def files_of(body: Object) -> dict[str, bytes]:
    """What of a Secret is ours to read; what else is in it stays where it is."""
    data: Mapping[str, str] = body.get("data") or {}
    return {name: base64.b64decode(data[name]) for name in FILES if name in data}
