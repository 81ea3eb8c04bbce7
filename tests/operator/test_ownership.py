"""Whether an object is as it was applied, told from its managed fields."""

import json
from typing import Any

import pytest

from splitwise_operator.ownership import digest, owned_fields, owns_all, with_digest

DESIRED: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Thing",
    "metadata": {"name": "a", "namespace": "b", "labels": {"x": "y"}},
    "spec": {
        "replicas": 2,
        "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}],
        "args": ["one", "two"],
        "empty": {},
    },
}
OWNED: dict[str, Any] = {
    "f:metadata": {"f:labels": {"f:x": {}}},
    "f:spec": {
        "f:replicas": {},
        "f:containers": {
            'k:{"name":"c"}': {
                ".": {},
                "f:name": {},
                "f:image": {},
                "f:ports": {
                    'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}
                },
            }
        },
        "f:args": {},
    },
}


def without(*path: str) -> str:
    """OWNED as JSON, less the field at a path; what is left without any field goes too."""
    made = json.loads(json.dumps(OWNED))
    places = [made]
    for part in path[:-1]:
        places.append(places[-1][part])
    for place, part in reversed(list(zip(places, path))):
        if part == path[-1] or not place[part]:
            del place[part]
    return json.dumps(made)


def test_an_object_whose_fields_are_all_ours_is_as_it_was_applied() -> None:
    assert owns_all(json.dumps(OWNED), DESIRED)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(("f:spec", "f:replicas"), id="a value"),
        pytest.param(("f:metadata", "f:labels", "f:x"), id="a label"),
        pytest.param(("f:spec", "f:args"), id="a list that is one whole"),
        pytest.param(("f:spec", "f:containers", 'k:{"name":"c"}'), id="an entry of a list"),
        pytest.param(
            ("f:spec", "f:containers", 'k:{"name":"c"}', "f:image"), id="a field of an entry"
        ),
    ],
)
def test_a_field_that_somebody_else_has_changed_is_missed(path: tuple[str, ...]) -> None:
    assert not owns_all(without(*path), DESIRED)


def test_an_object_that_we_never_applied_is_not_as_applied() -> None:
    assert not owns_all("", DESIRED)


def test_only_fields_that_we_apply_count_as_ours() -> None:
    entries = [
        {"manager": "us", "operation": "Update", "fieldsV1": {"f:a": {}}},
        {"manager": "us", "operation": "Apply", "subresource": "status", "fieldsV1": {"f:b": {}}},
        {"manager": "us", "operation": "Apply", "fieldsV1": {"f:c": {}}},
        {"manager": "them", "operation": "Apply", "fieldsV1": {"f:d": {}}},
    ]
    assert owned_fields({"metadata": {"managedFields": entries}}, "us") == '{"f:c":{}}'


def test_the_digest_tells_two_wishes_apart_and_says_nothing_of_itself() -> None:
    other = DESIRED | {"spec": DESIRED["spec"] | {"replicas": 3}}
    assert digest(DESIRED) != digest(other)
    marked = with_digest(DESIRED)
    assert marked["metadata"]["annotations"]["splitwise.dev/digest"] == digest(DESIRED)
    assert "annotations" not in DESIRED["metadata"]
