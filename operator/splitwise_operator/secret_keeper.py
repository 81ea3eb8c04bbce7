"""Keeps a cluster's Secret as it should be, and looks at the one that its user brings.

Neither is watched, for whoever may list the Secrets of a namespace has them all: each is asked for
by its name, at every look.
"""

from datetime import datetime

from splitwise_core.spec import SplitwiseCluster
from splitwise_operator import kv_secret
from splitwise_operator.conditions import Reason
from splitwise_operator.kinds import SECRET
from splitwise_operator.kube import Kube
from splitwise_operator.kv_content import kept, wrong_with
from splitwise_operator.names import Object
from splitwise_operator.status import Problem


async def keep(kube: Kube, cluster: SplitwiseCluster, owner: Object, now: datetime) -> bool:
    """Makes or renews the Secret where that is due; whether it was. Raises ApiError, and Taken."""
    name, namespace = kv_secret.secret_name(cluster), cluster.metadata.namespace
    body = await kube.get(SECRET, namespace, name)
    if body is not None and not _is_owned(body, owner):
        raise Taken(name)
    found = {} if body is None else kv_secret.files_of(body)
    files = kept(found, cluster, now)
    if files == found:
        return False
    made = kv_secret.secret(cluster, files)
    made["metadata"]["ownerReferences"] = [owner]
    await kube.apply(SECRET, made, force=True)
    return True


async def look_at_theirs(kube: Kube, cluster: SplitwiseCluster) -> Problem | None:
    """What is wrong with the Secret that the user has named, if one is. Raises ApiError."""
    theirs = cluster.spec.transfer.tls.secret_name
    if theirs is None:
        return None
    body = await kube.get(SECRET, cluster.metadata.namespace, theirs)
    found = None if body is None else kv_secret.files_of(body)
    wrong = wrong_with(found, cluster)
    said = f"spec.transfer.tls.secretName, Secret {theirs}: {wrong}."
    return Problem(Reason.CERTIFICATE_UNUSABLE, said) if wrong else None


class Taken(Exception):
    """There is a Secret of that name which is somebody else's."""


def _is_owned(body: Object, owner: Object) -> bool:
    owners = body["metadata"].get("ownerReferences", [])
    return any(own["uid"] == owner["uid"] for own in owners)
