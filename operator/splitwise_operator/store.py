"""The objects of all clusters as the API server has them: a record each, no more."""

from collections.abc import Iterable, Mapping
from typing import Final

from splitwise_core.labels import CLUSTER_LABEL
from splitwise_operator import names
from splitwise_operator.names import Object
from splitwise_operator.observed import Seen, seen
from splitwise_operator.scaled_pools import ScalingView

Key = tuple[str, str]
"""A cluster: namespace and name."""

SELECTOR: Final = f"{names.MANAGED_BY_LABEL}={names.MANAGER},{CLUSTER_LABEL}"
"""What is watched: objects that bear the labels of ours."""

_Id = tuple[str, str, str]


class Store:
    """Clusters' bodies and their objects' records. Every change tells which cluster it is about."""

    def __init__(self) -> None:
        self.clusters: dict[Key, Object] = {}
        self.transfer: dict[Key, list[Object]] = {}  # what a router said of links, when one did
        self.scaling: dict[Key, ScalingView] = {}  # of clusters that we scale, once looked at
        self.advice: dict[Key, Object] = {}  # of clusters whose load says something
        self._objects: dict[Key, dict[_Id, Seen]] = {}
        self._keys: dict[_Id, Key] = {}

    def objects(self, key: Key) -> Mapping[tuple[str, str], Seen]:
        """(kind, name) -> the record of every object of a cluster."""
        found = self._objects.get(key, {})
        return {(one.kind, one.name): one for one in tuple(found.values())}  # threads ask too

    def put(self, kind: str, body: Object) -> Key:
        """Takes in an object as it is now; an older version than the one known changes nothing."""
        meta = body["metadata"]
        key = (meta["namespace"], meta["labels"][CLUSTER_LABEL])
        ident = (kind, meta["namespace"], meta["name"])
        there = self._objects.setdefault(key, {})
        known = there.get(ident)
        is_older = (
            known is not None
            and known.uid == meta["uid"]
            and known.version > int(meta["resourceVersion"])
        )
        if not is_older:
            self._forget(ident)
            self._objects.setdefault(key, {})[ident] = seen(kind, body)
            self._keys[ident] = key
        return key

    def drop(self, kind: str, body: Object) -> Key | None:
        """Takes out an object; None when it was not known."""
        meta = body["metadata"]
        return self._forget((kind, meta["namespace"], meta["name"]))

    def keep_only(self, kind: str, namespace: str | None, bodies: Iterable[Object]) -> set[Key]:
        """Takes in all objects of a kind that there are, and takes out the others."""
        listed = list(bodies)
        there = {(kind, b["metadata"]["namespace"], b["metadata"]["name"]) for b in listed}
        gone = [
            ident
            for ident in self._keys
            if ident[0] == kind and namespace in (None, ident[1]) and ident not in there
        ]
        changed = {key for ident in gone if (key := self._forget(ident))}
        return changed | {self.put(kind, body) for body in listed}

    def _forget(self, ident: _Id) -> Key | None:
        key = self._keys.pop(ident, None)
        if key is not None:
            del self._objects[key][ident]
            if not self._objects[key]:
                del self._objects[key]
        return key
