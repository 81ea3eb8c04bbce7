"""crds/: what the models say, in the form that an API server enforces."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from splitwise_core.crd import custom_resource_definitions

CRDS = Path(__file__).parents[2] / "crds"
MADE = custom_resource_definitions()


def test_the_files_are_those_that_the_models_make() -> None:
    found = {file.name: yaml.safe_load(file.read_text("utf-8")) for file in CRDS.glob("*.yaml")}
    assert found == MADE, "run `make generate`"


def fields(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Every field of a schema with its path."""
    found = []
    for name, field in schema.get("properties", {}).items():
        found.append((f"{path}.{name}", field))
        found += fields(field, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        found += fields(schema["items"], f"{path}[]")
    return found


@pytest.mark.parametrize("name", MADE)
def test_every_field_of_the_spec_explains_itself(name: str) -> None:
    schema = MADE[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]
    assert [path for path, field in fields(spec) if not field.get("description")] == []


@pytest.mark.parametrize("name", MADE)
def test_every_rule_says_what_to_do(name: str) -> None:
    schema = MADE[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    checked = [("", schema), *fields(schema)]
    rules = [rule for _, field in checked for rule in field.get("x-kubernetes-validations", [])]
    assert rules
    assert all(rule["message"] for rule in rules)
