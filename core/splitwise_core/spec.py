"""SplitwiseCluster and SplitwisePool as pydantic models: the file a user writes, checked.

`parse_cluster` is the door: it names every problem by its path, with the nearest known field name.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails

from splitwise_core.errors import UserError
from splitwise_core.policy.batching import PROMPT_BATCH_TOKENS

GROUP: Final = "splitwise.dev"
API_VERSION: Final = f"{GROUP}/v1alpha1"

_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
_UNITS: Final = {
    "m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip


def quantity(text: str) -> float:
    """The value of a Kubernetes quantity ("500m", "1Gi"). Raises ValueError when it is none."""
    found = _QUANTITY.match(text)
    if found is None:
        raise ValueError(f"{text!r} is not a quantity such as 2, 500m, 512Mi or 1Gi")
    return float(found[1]) * _UNITS[found[2] or ""]


def _quantity_text(value: object) -> object:
    """YAML reads `cpu: 2` as a number; Kubernetes takes both."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True
    )


Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$", max_length=40)]


class Metadata(_Model):
    """The part of Kubernetes' ObjectMeta that a user writes."""

    name: Name
    namespace: Name = "default"
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Model(_Model):
    """The checkpoint that every worker loads."""

    name: Annotated[str, Field(min_length=1, max_length=120, pattern=r"^[\w./:-]+$")]
    path: Annotated[
        str,
        Field(
            min_length=1,
            description="Directory in Hugging Face format on every node. `splitwise up` and "
            "`splitwise render` resolve a relative path against the file.",
        ),
    ]
    max_length: Annotated[
        int | None,
        Field(ge=16, description="Context in tokens; the model's own limit when left out."),
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16", "int8"],
        Field(description="Weights: auto is bfloat16 on a GPU and float32 on a CPU."),
    ] = "auto"


class Resources(_Model):
    """What one worker container may use."""

    cpu: str | None = None
    memory: str | None = None

    @field_validator("cpu", "memory", mode="before")
    @classmethod
    def _is_quantity(cls, value: object) -> object:
        text = _quantity_text(value)
        if isinstance(text, str) and quantity(text) <= 0:
            raise ValueError("must be above 0")
        return text


class Gpu(_Model):
    """GPUs of one worker, by the resource name of the device plugin."""

    resource: Annotated[str, Field(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9_.-]+$")] = "nvidia.com/gpu"
    count: Annotated[int, Field(ge=1, le=1, description="1: a worker drives one GPU.")] = 1


class Pool(_Model):
    """Workers of one role on one kind of node."""

    name: Name
    role: Literal["prompt", "token", "mixed"]
    replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    kv_memory: Annotated[
        str, Field(description="Memory for the KV-cache of one worker, on the host and the GPU.")
    ] = "1Gi"
    max_sequences: Annotated[
        int, Field(ge=1, le=1024, description="Sequences that one worker holds at a time.")
    ] = 64
    resources: Resources = Resources()
    gpu: Gpu | None = None
    node_selector: dict[str, str] = {}

    @field_validator("kv_memory", mode="before")
    @classmethod
    def _is_quantity(cls, value: object) -> object:
        text = _quantity_text(value)
        if isinstance(text, str) and quantity(text) < 2**20:
            raise ValueError("must be at least 1Mi")
        return text


class Scheduling(_Model):
    """Limits of the two schedulers."""

    prompt_batch_tokens: Annotated[
        int, Field(ge=1, le=131072, description="Prompt tokens in one batch.")
    ] = PROMPT_BATCH_TOKENS
    overflow_tokens: Annotated[
        int,
        Field(ge=0, description="Pending tokens above which a pool overflows into the mixed pool."),
    ] = 8192


class Transfer(_Model):
    """How KV moves between workers."""

    transport: Annotated[
        Literal["Auto", "GRPC"], Field(description="Auto takes the cheapest that works.")
    ] = "Auto"
    lease_seconds: Annotated[
        int,
        Field(ge=2, le=300, description="A reservation ends this long after its last renewal."),
    ] = 10


class Router(_Model):
    """The OpenAI HTTP API in front of the workers."""

    replicas: Annotated[int, Field(ge=1, le=100)] = 1
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    request_timeout_seconds: Annotated[int, Field(ge=1, le=86400)] = 600
    max_queued_requests: Annotated[
        int, Field(ge=0, le=100_000, description="Requests that may wait for capacity; then 429.")
    ] = 256
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**28)] = 2**21
    retries: Annotated[
        int, Field(ge=0, le=10, description="New attempts of a request whose worker was lost.")
    ] = 2


class ClusterSpec(_Model):
    """What the cluster should be."""

    model: Model
    pools: Annotated[list[Pool], Field(min_length=1, max_length=50)]
    scheduling: Scheduling = Scheduling()
    transfer: Transfer = Transfer()
    router: Router = Router()

    @model_validator(mode="after")
    def _pools_make_a_cluster(self) -> "ClusterSpec":
        names = [pool.name for pool in self.pools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(
                f"pools: the name {twice[0]!r} is used twice; every pool needs its own"
            )
        if "router" in names:
            raise ValueError("pools: 'router' is the router's own name; call the pool otherwise")
        roles = {pool.role for pool in self.pools}
        for role, other in (("prompt", "token"), ("token", "prompt")):
            if role not in roles and "mixed" not in roles:
                raise ValueError(
                    f"pools: a {other} pool needs a pool of role {role} or mixed beside it"
                )
        return self


class SplitwiseCluster(_Model):
    """One model served by prompt, token and mixed pools behind one router."""

    api_version: Literal["splitwise.dev/v1alpha1"]
    kind: Literal["SplitwiseCluster"]
    metadata: Metadata
    spec: ClusterSpec


class PoolSpec(_Model):
    """One pool of a cluster, as the object whose replicas are scaled."""

    cluster: Name
    pool: Name
    role: Literal["prompt", "token", "mixed"]
    replicas: Annotated[int, Field(ge=1, le=1000)]


class SplitwisePool(_Model):
    """The replicas of one pool: created by the operator, named `<cluster>-<pool>`."""

    api_version: Literal["splitwise.dev/v1alpha1"]
    kind: Literal["SplitwisePool"]
    metadata: Metadata
    spec: PoolSpec


def load_cluster(path: Path) -> SplitwiseCluster:
    """The cluster in a YAML file, `model.path` made absolute. Raises UserError naming the fix."""
    try:
        documents = [item for item in yaml.safe_load_all(path.read_text("utf-8")) if item]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            "unreadable-file",
            where=str(path),
            wrong=f"cannot be read: {reason}",
            fix="name a SplitwiseCluster file, such as examples/quickstart.yaml",
        ) from error
    except yaml.YAMLError as error:
        raise UserError(
            "unreadable-file",
            where=str(path),
            wrong=f"is not YAML: {' '.join(str(error).split())}",
            fix="correct the line that the message names",
        ) from error
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
        problems = [_explain(item, document) for item in error.errors()]
    lines = "".join(f"\n  {path}: {wrong}" for path, wrong, _ in problems)
    fixes = "; ".join(dict.fromkeys(fix for _, _, fix in problems))
    raise UserError("invalid-spec", where=where, wrong=f"is not valid:{lines}", fix=fixes)


def _explain(error: ErrorDetails, document: object) -> tuple[str, str, str]:
    """The path, the wrong and the fix of one of pydantic's errors."""
    path = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in error["loc"]).lstrip(".")
    match error["type"]:
        case "extra_forbidden":
            known = _known_fields(error["loc"][:-1])
            near = get_close_matches(str(error["loc"][-1]), known, n=1, cutoff=0.5)
            fix = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(known)}"
            return path, "unknown field", f"{path}: {fix}"
        case "missing":
            return path, "is required", f"add {path}"
        case "literal_error":
            expected = error.get("ctx", {}).get("expected", "")
            return path, f"{error['input']!r} is not one of {expected}", f"{path}: use {expected}"
        case "value_error":
            message = error["msg"].removeprefix("Value error, ")
            return path, message, f"{path}: {message}"
        case _:
            message = error["msg"][0].lower() + error["msg"][1:]
            return path or "document", f"{message}, got {error['input']!r}", f"correct {path}"


def _known_fields(location: tuple[int | str, ...]) -> list[str]:
    """The field names of the model at a path of the document."""
    model: Any = SplitwiseCluster
    for part in location:
        if isinstance(part, int):
            continue
        annotation = next(
            field.annotation for field in model.model_fields.values() if field.alias == part
        )
        model = next((m for m in _models_in(annotation)), model)
    return sorted(str(field.alias) for field in model.model_fields.values())


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's type mentions: `list[Pool]` -> [Pool]."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]
