"""From the YAML file that a user writes to a checked cluster, or to a list of its mistakes.

Every problem is named by its path, with the nearest known field name and the fix.
"""

import reprlib
from collections.abc import Hashable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from splitwise_core.errors import UserError
from splitwise_core.spec import SplitwiseCluster

_EXPECTED: Final = {
    "model_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "list_type": "should be a list",
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_from_float": "should be a whole number",
    "int_parsing_size": "is too large",
}
"""Our words where pydantic's speak of Python."""

_QUOTABLE: Final = (bool, int, float)
"""What YAML makes of text such as `on`, `12` or `1e5` when it has no quotes."""


def load_cluster(path: Path) -> SplitwiseCluster:
    """The cluster in a YAML file, `model.path` made absolute. Raises UserError naming the fix."""
    documents = [item for item in _documents(path) if item]
    if len(documents) != 1:
        raise UserError(
            "invalid-spec",
            where=str(path),
            wrong=f"holds {len(documents)} objects",
            fix="keep exactly one SplitwiseCluster in the file",
        )
    cluster = parse_cluster(documents[0], where=str(path))
    model_path = (path.parent / cluster.spec.model.path).resolve()
    model = cluster.spec.model.model_copy(update={"path": str(model_path)})
    return cluster.model_copy(update={"spec": cluster.spec.model_copy(update={"model": model})})


def parse_cluster(document: object, where: str = "SplitwiseCluster") -> SplitwiseCluster:
    """The cluster in a parsed document. Raises UserError that lists every problem by its path."""
    try:
        return SplitwiseCluster.model_validate(document)
    except ValidationError as error:
        problems = [_explain(item) for item in error.errors()]
    lines = "".join(f"\n  {path}: {wrong}" for path, wrong, _ in problems)
    fixes = "; ".join(dict.fromkeys(fix for _, _, fix in problems))
    raise UserError("invalid-spec", where=where, wrong=f"is not valid:{lines}", fix=fixes)


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, where YAML parsers just take the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as written, before `<<` brings in others' keys, which it may override."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                name = (key.tag, key.value)
                if name in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                    )
                seen.add(name)
        return node


def _documents(path: Path) -> list[object]:
    try:
        return list(yaml.load_all(path.read_text("utf-8"), Loader=_Loader))
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
        fix = "name a SplitwiseCluster file, such as examples/quickstart.yaml"
    except UnicodeDecodeError:
        wrong = "cannot be read: it is not UTF-8 text"
        fix = "name a SplitwiseCluster file, such as examples/quickstart.yaml"
    except yaml.YAMLError as error:
        wrong = f"is not YAML: {' '.join(str(error).split())}"
        fix = "correct the line that the message names"
    except RecursionError:
        wrong = "is nested too deeply"
        fix = "write a SplitwiseCluster as in examples/quickstart.yaml"
    except ValueError as error:  # a value that looks like a date or a number and is none
        wrong = f"holds a value that YAML cannot read: {error}"
        fix = "put the value in quotes"
    raise UserError("unreadable-file", where=str(path), wrong=wrong, fix=fix)


def _explain(error: ErrorDetails) -> tuple[str, str, str]:
    """The path, the wrong and the fix of one of pydantic's errors."""
    location = tuple(part for part in error["loc"] if part != "[key]")
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in location).lstrip(".")
    kind, got = error["type"], reprlib.repr(error["input"])
    if kind == "extra_forbidden":
        known = sorted(_fields(location[:-1]))
        near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        fix = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
        return path, "unknown field", f"{path}: {fix}"
    if kind == "missing":
        return path, "is required", f"add {path}"
    if kind == "literal_error":
        expected = error.get("ctx", {}).get("expected", "")
        return path, f"{got} is not one of {expected}", f"{path}: use {expected}"
    if kind == "value_error":
        return _own_rule(path, error["msg"].removeprefix("Value error, "))
    wrong = _EXPECTED.get(kind, error["msg"][0].lower() + error["msg"][1:])
    fix = f"correct {path or 'the document'}"
    if kind == "string_pattern_mismatch" and (about := _about(location)):
        fix = f"{path}: {about}"
    if kind == "string_type" and isinstance(error["input"], _QUOTABLE):
        fix = f"{path}: put the value in quotes"
    return path or "the document", f"{wrong}, got {got}", fix


def _own_rule(path: str, message: str) -> tuple[str, str, str]:
    """As `_explain`, for a rule of ours; one over a whole mapping begins with the field's path."""
    field, colon, rest = message.partition(": ")
    if colon and (not path or field.isidentifier()):
        path, message = f"{path}.{field}".lstrip("."), rest
    wrong, _, fix = message.partition("; ")
    return path, wrong, f"{path}: {fix or wrong}"


def _about(location: tuple[int | str, ...]) -> str:
    """What the reference says of the field at a path; "" for a key or value of a mapping."""
    field = _fields(location[:-1]).get(str(location[-1]))
    return "" if field is None else field.description or ""


def _fields(location: tuple[int | str, ...]) -> dict[str, FieldInfo]:
    """The fields, by their names in YAML, of the model at a path of the document."""
    model: type[BaseModel] = SplitwiseCluster
    for part in location:
        if isinstance(part, str):
            annotation = next(f.annotation for f in model.model_fields.values() if f.alias == part)
            model = next(iter(models_in(annotation)), model)
    return {str(field.alias): field for field in model.model_fields.values()}


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type mentions: `list[Pool]` -> [Pool]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in models_in(part)]
