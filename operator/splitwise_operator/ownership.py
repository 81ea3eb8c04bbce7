"""Whether an object is as it was applied, told from what the API server notes of its fields.

With server-side apply every field has its owners. A field that somebody else changes is no longer
ours, and so the object is as we want it when all that we want is ours and is what we applied last:
`DIGEST` says what that was. Nothing has to be remembered, and what others add is not looked at.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

from splitwise_core.fields import GROUP
from splitwise_operator.names import Object

DIGEST: Final = f"{GROUP}/digest"


def digest(desired: Object) -> str:
    """Sixteen hex digits over an object as it is to be applied."""
    return sha256(json.dumps(desired, sort_keys=True).encode()).hexdigest()[:16]


def with_digest(desired: Object) -> Object:
    """The object with `DIGEST` among its annotations."""
    meta = desired["metadata"]
    marks = {**meta.get("annotations", {}), DIGEST: digest(desired)}
    return desired | {"metadata": meta | {"annotations": marks}}


def owned_fields(observed: Object, manager: str) -> str:
    """The fields that `manager` owns by apply, as JSON; "" when there are none."""
    for entry in observed["metadata"].get("managedFields", []):
        if entry["manager"] == manager and entry["operation"] == "Apply" and not _sub(entry):
            return json.dumps(entry.get("fieldsV1", {}), separators=(",", ":"))
    return ""


def declared_owners(observed: Object) -> frozenset[str]:
    """Who else declares fields of the object by server-side apply."""
    entries = observed["metadata"].get("managedFields", [])
    return frozenset(e["manager"] for e in entries if e["operation"] == "Apply" and not _sub(e))


def is_as_applied(seen_digest: str, owned: str, marked: Object) -> bool:
    """Whether an object is what `marked` (see `with_digest`) would make it.

    `seen_digest` is what it bears, `owned` (JSON) the fields that are ours.
    """
    return seen_digest == marked["metadata"]["annotations"][DIGEST] and owns_all(owned, marked)


def owns_all(owned: str, desired: Object) -> bool:
    """Whether the owned fields (JSON) hold everything that `desired` says."""
    if not owned:
        return False
    meta = {k: v for k, v in desired["metadata"].items() if k not in ("name", "namespace")}
    said = {k: v for k, v in desired.items() if k not in ("apiVersion", "kind")}
    return _covers(json.loads(owned), said | {"metadata": meta})


def _sub(entry: Mapping[str, Any]) -> bool:
    return bool(entry.get("subresource"))


def _covers(fields: Mapping[str, Any], value: Any) -> bool:
    if not fields:
        return True  # a leaf, or owned as a whole
    if isinstance(value, Mapping):
        return all(_has(fields, f"f:{key}", inner) for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(_has_entry(fields, entry) for entry in value)
    return True


def _has(fields: Mapping[str, Any], key: str, value: Any) -> bool:
    if value in ({}, []):
        return True  # says nothing
    return key in fields and _covers(fields[key], value)


def _has_entry(fields: Mapping[str, Any], entry: Any) -> bool:
    """An entry of a list: by its key fields, where a default may be left out, or by its value."""
    if not isinstance(entry, Mapping):
        return f"v:{json.dumps(entry)}" in fields
    for name, inner in fields.items():
        if name.startswith("k:"):
            keys = json.loads(name[2:])
            if all(entry.get(key, value) == value for key, value in keys.items()):
                return _covers(inner, entry)
    return False
