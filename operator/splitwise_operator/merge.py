"""A user's pod template over ours: named things are merged by name, all else takes our place."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from splitwise_core.spec_pool import Pod

_KEYS: Final = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
"""The lists of a PodSpec that Kubernetes merges too, and what tells their entries apart."""


def with_template(pod: Mapping[str, Any], template: Pod) -> dict[str, Any]:
    """A pod's metadata and spec with the user's over them; neither argument changes."""
    theirs = {"metadata": template.metadata.model_dump(exclude_defaults=True)}
    made: dict[str, Any] = _merged(pod, theirs | {"spec": template.spec})
    return made


def _merged(ours: Any, theirs: Any, field: str = "") -> Any:
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        both = {key: _merged(ours[key], theirs[key], key) for key in ours if key in theirs}
        return {**ours, **theirs, **both}
    key = _KEYS.get(field)
    if key is not None and _all_have(key, ours) and _all_have(key, theirs):
        changes = {entry[key]: entry for entry in theirs}
        kept = [_merged(entry, changes.pop(entry[key], {})) for entry in ours]
        return [*kept, *changes.values()]
    return theirs


def _all_have(key: str, entries: object) -> bool:
    is_list = isinstance(entries, Sequence) and not isinstance(entries, str)
    return is_list and all(isinstance(e, Mapping) and key in e for e in entries)  # type: ignore[attr-defined]
