"""A good SplitwiseCluster, and what it is with one thing changed."""

import copy
from typing import Any, Final

GOOD: Final[dict[str, Any]] = {
    "apiVersion": "splitwise.dev/v1alpha1",
    "kind": "SplitwiseCluster",
    "metadata": {"name": "demo"},
    "spec": {
        "model": {"name": "tiny", "path": "/models/tiny"},
        "pools": [{"name": "prompt", "role": "prompt"}, {"name": "token", "role": "token"}],
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """GOOD with the value at a dotted path replaced; `...` removes it."""
    document = copy.deepcopy(GOOD)
    put(document, path, value)
    return document


def put(document: dict[str, Any], path: str, value: object) -> None:
    """Replaces the value at a dotted path; a mapping that is not there yet is made."""
    steps: list[Any] = [int(part) if part.isdigit() else part for part in path.split(".")]
    *parents, last = steps
    place: Any = document
    for part in parents:
        place = place[part] if isinstance(place, list) else place.setdefault(part, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
