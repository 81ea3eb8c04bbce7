"""kopf's handlers: what happens to SplitwiseClusters is noted, and the cluster is looked at.

Nothing is decided here. kopf keeps no state of its own on the objects: there is no finalizer, so
that a cluster can be deleted when no operator runs, and no annotation to write.
"""

import os
from pathlib import Path
from typing import Any, Final

import kopf

from splitwise_operator.kinds import CLUSTER
from splitwise_operator.names import Object
from splitwise_operator.store import Store
from splitwise_operator.worklist import Worklist

ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def register(registry: kopf.OperatorRegistry, store: Store, worklist: Worklist) -> None:
    """Puts our handlers into `registry`."""

    @kopf.on.event(CLUSTER.api_version, CLUSTER.plural, registry=registry)
    async def changed(event: kopf.RawEvent, **_: object) -> None:
        body: Object = dict(event["object"])
        key = (body["metadata"]["namespace"], body["metadata"]["name"])
        if event["type"] == "DELETED":
            store.clusters.pop(key, None)
            await worklist.forget(key)
        else:
            before = store.clusters.get(key)
            store.clusters[key] = body
            worklist.wake(key, is_urgent=before is None or _spec(before) != _spec(body))

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        """As the pod's account, else as the user of the kubeconfig; again when refused."""
        return _of_pod() or kopf.login_with_kubeconfig(**kwargs)


def _spec(body: Object) -> tuple[object, ...]:
    """What of a cluster is its user's."""
    meta = body["metadata"]
    return meta["generation"], meta.get("labels"), meta.get("annotations")


def _of_pod() -> kopf.ConnectionInfo | None:
    """By address, as the kubelet tells it: kopf's own goes by a name, and so by the DNS."""
    host, token = os.environ.get("KUBERNETES_SERVICE_HOST"), ACCOUNT / "token"
    if not host or not token.exists():
        return None
    host = f"[{host}]" if ":" in host else host
    return kopf.ConnectionInfo(
        server=f"https://{host}:{os.environ['KUBERNETES_SERVICE_PORT']}",
        ca_path=str(ACCOUNT / "ca.crt"),
        token=token.read_text("utf-8").strip(),
    )


def settings() -> kopf.OperatorSettings:
    """kopf as we need it: no scanning for kinds that come later, no Events of its own."""
    made = kopf.OperatorSettings()
    made.scanning.disabled = True
    made.posting.enabled = False
    made.batching.batch_window = 0.02
    made.watching.server_timeout = 290
    made.watching.inactivity_timeout = 120
    made.networking.request_timeout = 20
    return made
