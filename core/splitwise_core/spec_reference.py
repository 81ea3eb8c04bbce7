"""docs/api.md: every field of a SplitwiseCluster, printed from the models themselves."""

from collections.abc import Iterator
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Le, MaxLen, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from splitwise_core.manifest import models_in
from splitwise_core.spec import API_VERSION, SplitwiseCluster

_HEAD: Final = f"""# SplitwiseCluster

`{API_VERSION}`. A field that is not listed here is refused by its path, and so is a value of
another type: text stays text, `"2"` is no number. `splitwise render -f FILE` checks a file alone.
"""

_NAMES: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def reference() -> str:
    """The document: a section for each mapping, a row for each field of it."""
    return _HEAD + "".join(_section(path, model) for path, model in _mappings("", SplitwiseCluster))


def _mappings(path: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The mappings of a document with their paths, outer ones first."""
    yield path, model
    for field in model.model_fields.values():
        many = "[]" if get_origin(field.annotation) is list else ""
        for inner in models_in(field.annotation):
            yield from _mappings(f"{path}.{field.alias}{many}".lstrip("."), inner)


def _section(path: str, model: type[BaseModel]) -> str:
    title = f"\n## {path}\n" if path else ""
    rows = "".join(_row(field) for field in model.model_fields.values())
    return (
        f"{title}\n{' '.join((model.__doc__ or '').split())}\n\n"
        f"| field | type | default | |\n|---|---|---|---|\n{rows}"
    )


def _row(field: FieldInfo) -> str:
    default = "**required**" if field.is_required() else _default(field.default)
    about = " ".join(part for part in (field.description, _range(field)) if part)
    return f"| `{field.alias}` | {_type(field.annotation)} | {default} | {about} |\n"


def _default(value: Any) -> str:
    if isinstance(value, list) and value:
        return "all"
    if isinstance(value, BaseModel | dict | list):
        return "as below" if isinstance(value, BaseModel) else "none"
    return "none" if value is None else f"`{value}`"


def _type(annotation: Any) -> str:
    """A field's type in words; what may be left out is not said again."""
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    if get_origin(annotation) is list:
        (item,) = get_args(annotation)
        return f"list of {_type(item)}" if get_origin(item) is Literal else "list of mappings"
    if get_origin(annotation) is dict:
        return "mapping" if Any in get_args(annotation) else "mapping of text to text"
    if found := [part for part in get_args(annotation) if part is not type(None)]:
        return _type(found[0])
    return "mapping" if models_in(annotation) else _NAMES[annotation]


def _range(field: FieldInfo) -> str:
    """Bounds of a number, a length or a list, in words; "" without any."""
    bounds = {type(bound): bound for bound in field.metadata}
    low, high = bounds.get(Ge), bounds.get(Le)
    if isinstance(low, Ge) and isinstance(high, Le):
        ends = dict.fromkeys((f"`{low.ge}`", f"`{high.le}`"))  # one word when they are the same
        return f"{' to '.join(ends)}."
    if isinstance(low, Ge):
        return f"At least `{low.ge}`."
    short, long = bounds.get(MinLen), bounds.get(MaxLen)
    unit = "entries" if get_origin(field.annotation) is list else "characters"
    if isinstance(long, MaxLen):
        floor = f"{short.min_length} to " if isinstance(short, MinLen) else "At most "
        return f"{floor}{long.max_length} {unit}."
    return ""
