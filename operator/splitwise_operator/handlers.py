"""kopf's handlers: what happens to SplitwiseClusters is noted, and the cluster is looked at.

Nothing is decided here. kopf keeps no state of its own on the objects: there is no finalizer, so
that a cluster can be deleted when no operator runs, and no annotation to write.
"""

from typing import Any

import kopf

from splitwise_operator.kinds import CLUSTER
from splitwise_operator.names import Object
from splitwise_operator.store import Store
from splitwise_operator.worklist import Worklist


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
            store.clusters[key] = body
            worklist.wake(key)

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        """As a pod with its account's token, else as the user of the kubeconfig."""
        in_cluster = kopf.login_with_service_account(**kwargs)
        return in_cluster or kopf.login_with_kubeconfig(**kwargs)


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
