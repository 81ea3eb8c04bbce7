"""Machines, their prices, and models: a YAML file with sources and dates."""

from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from splitwise_core.errors import UserError

SHIPPED: Final = Path(__file__).parent / "data" / "catalog.yaml"

MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine for sale. `gpu` names its rows in the phase times; `letter` it in designs.

    `power_units` is the power to provision, in whatever unit the whole catalogue uses.
    `prompt_slowdown` multiplies the GPU's prompt times, for a power cap. What has no value is not
    needed in compat mode: the network of the whole machine, what telling of a layer costs a prompt,
    the watts of one GPU in each phase; and, as `splitwise bench profile` measures them, the time
    that a request takes beside its phases, and the part of a transfer that no bandwidth shortens.
    """

    letter: str
    gpu: str
    gpus: int
    gpu_memory_bytes: int
    dollars_per_hour: float
    power_units: float
    source: str
    read: str
    prompt_slowdown: float = 1.0
    network_bytes_per_s: float | None = None
    layer_push_s: float | None = None
    idle_watts: float | None = None
    prompt_watts: float | None = None
    token_watts: float | None = None
    request_s: float | None = None
    transfer_latency_s: float | None = None

    @property
    def memory_bytes(self) -> int:
        """Of all its GPUs."""
        return self.gpus * self.gpu_memory_bytes


@dataclass(frozen=True, slots=True)
class Model:
    """One model as machines hold it. Its slowdowns are against a request alone on `reference_gpu`:
    the paper's own, unless the model was not measured there."""

    tensor_parallel: int
    weight_bytes: int
    layers: int
    hidden: int
    kv_bytes_per_token: int
    source: str
    read: str
    reference_gpu: str = "a100-80gb"


@dataclass(frozen=True, slots=True)
class Catalog:
    """Machines and models by name."""

    machines: dict[str, Machine]
    models: dict[str, Model]

    def model(self, name: str) -> Model:
        """The model of a name. Raises UserError (invalid-catalog) that lists those known."""
        if name not in self.models:
            raise UserError(
                "invalid-catalog",
                where=f"--model {name}",
                wrong="is not in the catalogue",
                fix=f"use one of {', '.join(sorted(self.models))}, or add it with --catalog",
            )
        return self.models[name]


@cache
def load_catalog(path: Path = SHIPPED) -> Catalog:
    """The catalogue in a file. Raises UserError (invalid-catalog) naming the entry and field."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _refused(str(path), f"is larger than {MAX_BYTES} bytes", "keep facts alone in it")
        document = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise _refused(str(path), f"cannot be read: {error}", "give a YAML file") from error
    if not isinstance(document, dict) or set(document) != {"machines", "models"}:
        raise _refused(str(path), "lacks its two sections", "give it `machines` and `models`")
    machines = _entries(path, document, "machines", Machine)
    letters = [machine.letter for machine in machines.values()]
    if len(set(letters)) < len(letters):
        raise _refused(f"{path}: machines", "has a letter twice", "give each machine its own")
    return Catalog(machines, _entries(path, document, "models", Model))


Entry = TypeVar("Entry", Machine, Model)


def _entries(path: Path, document: dict[str, Any], key: str, kind: type[Entry]) -> dict[str, Entry]:
    """The entries of a section, each checked."""
    section = document[key]
    if not isinstance(section, dict) or not section:
        raise _refused(f"{path}: {key}", "is not a mapping with entries", "see the shipped file")
    return {
        str(name): _entry(f"{path}: {key}.{name}", found, kind) for name, found in section.items()
    }


def _entry(where: str, found: object, kind: type[Entry]) -> Entry:
    if not isinstance(found, dict):
        raise _refused(where, "is not a mapping", "see the shipped file")
    wanted = {field.name: field.type for field in fields(kind)}
    optional = {field.name for field in fields(kind) if field.default is not MISSING}
    if unknown := sorted(set(map(str, found)) - set(wanted)):
        raise _refused(f"{where}.{unknown[0]}", "is not a field", f"use {', '.join(wanted)}")
    values = dict(found)
    for name, type_ in wanted.items():
        if name not in values:
            if name in optional:
                continue
            raise _refused(f"{where}.{name}", "is missing", "add it; the shipped file shows how")
        values[name] = _value(f"{where}.{name}", values[name], type_)
    return kind(**values)


def _value(where: str, value: object, type_: object) -> object:
    """A field's value in its type: text, or a number above zero."""
    if type_ is str:
        return str(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e18:
        raise _refused(where, f"is {value!r}", "give a number above zero")
    if type_ is int and value != int(value):
        raise _refused(where, f"is {value!r}", "give a whole number")
    return int(value) if type_ is int else float(value)


def _refused(where: str, wrong: str, fix: str) -> UserError:
    return UserError("invalid-catalog", where=where, wrong=wrong, fix=fix)
