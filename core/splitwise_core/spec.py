"""SplitwiseCluster and SplitwisePool as pydantic models: what a cluster may be told."""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from splitwise_core.policy.batching import PROMPT_BATCH_TOKENS
from splitwise_core.quantity import CPU, MEMORY, quantity_between

GROUP: Final = "splitwise.dev"
API_VERSION: Final = f"{GROUP}/v1alpha1"

NAME_LENGTH: Final = 63
"""What Kubernetes allows a Service's name, and so `<cluster>-<pool>`."""


class _Model(BaseModel):
    # A rule that no type can state raises ValueError("what is wrong; the fix").
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel)


Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z]([-a-z0-9]*[a-z0-9])?$",
        max_length=40,
        description="Lower-case letters, digits and dashes; a letter first, no dash last.",
    ),
]
ObjectName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=NAME_LENGTH)
]
LabelKey = Annotated[
    str,
    Field(
        pattern=r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?"
        r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$")]


class ObjectMeta(_Model):
    """The part of Kubernetes' ObjectMeta that we read."""

    name: ObjectName
    namespace: Annotated[ObjectName, Field(description="Where all objects of the cluster are.")] = (
        "default"
    )
    labels: Annotated[
        dict[LabelKey, LabelValue],
        Field(description="Go along to every object of the cluster; splitwise.dev/ is taken."),
    ] = {}
    annotations: Annotated[
        dict[LabelKey, str], Field(description="Go along to every object of the cluster.")
    ] = {}


class Metadata(ObjectMeta):
    """What names a cluster, and what its objects are marked with."""

    name: Name

    @field_validator("labels")
    @classmethod
    def _ours_are_not_given(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if key.startswith(f"{GROUP}/"):
                raise ValueError(f"{key!r} is set by Splitwise itself; leave it out")
        return value


class Model(_Model):
    """The checkpoint that every worker loads."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=120,
            pattern=r"^\w[\w./:-]*$",
            description="What clients send as `model`.",
        ),
    ]
    path: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1024,
            pattern=r"^[^~\x00-\x1f][^\x00-\x1f]*$",
            description="Directory in Hugging Face format on every node. `splitwise up` and "
            "`splitwise render` resolve a relative path against the file; ~ is not expanded.",
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
    """What one worker container may use: both its request and its limit."""

    cpu: Annotated[
        str | None,
        Field(description="Cores, 10m to 1k. On one machine, without it, workers share all."),
    ] = None
    memory: Annotated[
        str | None,
        Field(description="1Mi to 16Ti; weights, kvMemory and the process itself must fit."),
    ] = None

    @field_validator("cpu", mode="before")
    @classmethod
    def _cpu_is_quantity(cls, value: object) -> object:
        return quantity_between(value, *CPU)

    @field_validator("memory", mode="before")
    @classmethod
    def _memory_is_quantity(cls, value: object) -> object:
        return quantity_between(value, *MEMORY)


class Gpu(_Model):
    """GPUs of one worker, by the resource name of the device plugin."""

    resource: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9.-]+/[A-Za-z0-9_.-]+$",
            description="As the device plugin names it, such as nvidia.com/gpu.",
        ),
    ] = "nvidia.com/gpu"
    count: Annotated[int, Field(ge=1, le=1, description="A worker drives one GPU.")] = 1


class Pool(_Model):
    """Workers of one role on one kind of node."""

    name: Name
    role: Annotated[
        Literal["prompt", "token", "mixed"],
        Field(description="prompt computes prompts, token generates; mixed does both."),
    ]
    replicas: Annotated[int, Field(ge=1, le=1000, description="Workers.")] = 1
    kv_memory: Annotated[
        str,
        Field(
            description="Memory for the KV-cache of one worker, 1Mi to 16Ti, on the host and on "
            "the GPU."
        ),
    ] = "1Gi"
    max_sequences: Annotated[
        int, Field(ge=1, le=1024, description="Sequences that one worker holds at a time.")
    ] = 64
    resources: Annotated[Resources, Field(description="CPU and memory of one worker.")] = (
        Resources()
    )
    gpu: Annotated[Gpu | None, Field(description="Workers compute on a CPU without it.")] = None
    node_selector: Annotated[
        dict[LabelKey, LabelValue], Field(description="Labels of the nodes that take the pods.")
    ] = {}

    @field_validator("kv_memory", mode="before")
    @classmethod
    def _is_quantity(cls, value: object) -> object:
        return quantity_between(value, *MEMORY)


class Scheduling(_Model):
    """Limits of the two schedulers."""

    prompt_batch_tokens: Annotated[
        int, Field(ge=1, le=131072, description="Prompt tokens that one batch holds at most.")
    ] = PROMPT_BATCH_TOKENS
    overflow_tokens: Annotated[
        int,
        Field(
            ge=0,
            le=2**31 - 1,
            description="Pending tokens above which a pool overflows into the mixed pool.",
        ),
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

    replicas: Annotated[int, Field(ge=1, le=100, description="Routers.")] = 1
    port: Annotated[
        int, Field(ge=1, le=65535, description="Port of the API; `splitwise up --port` wins.")
    ] = 8000
    request_timeout_seconds: Annotated[
        int, Field(ge=1, le=86400, description="A request that takes longer is ended.")
    ] = 600
    max_queued_requests: Annotated[
        int, Field(ge=0, le=100_000, description="Requests that may wait for capacity; then 429.")
    ] = 256
    max_body_bytes: Annotated[
        int, Field(ge=1024, le=2**28, description="A longer request body is refused with 413.")
    ] = 2**21
    retries: Annotated[
        int, Field(ge=0, le=10, description="New attempts of a request whose worker was lost.")
    ] = 2


class ClusterSpec(_Model):
    """What the cluster should be."""

    model: Annotated[Model, Field(description="What is served.")]
    pools: Annotated[
        list[Pool],
        Field(
            min_length=1,
            max_length=50,
            description="At least one prompt and one token pool, or a mixed one in the place of "
            "either.",
        ),
    ]
    scheduling: Annotated[Scheduling, Field(description="Limits of batches and queues.")] = (
        Scheduling()
    )
    transfer: Annotated[Transfer, Field(description="How KV moves.")] = Transfer()
    router: Annotated[Router, Field(description="The HTTP API.")] = Router()

    @field_validator("pools")
    @classmethod
    def _pools_make_a_cluster(cls, value: list[Pool]) -> list[Pool]:
        names = [pool.name for pool in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {twice[0]!r} is used twice; give every pool its own")
        if "router" in names:
            raise ValueError("'router' is the router's own name; call the pool otherwise")
        roles = {pool.role for pool in value}
        for role, other in (("prompt", "token"), ("token", "prompt")):
            if role not in roles and "mixed" not in roles:
                raise ValueError(
                    f"nothing works beside the {other} pool; add a pool of role {role} or mixed"
                )
        return value


class SplitwiseCluster(_Model):
    """One model served by prompt, token and mixed pools behind one router."""

    api_version: Annotated[
        Literal["splitwise.dev/v1alpha1"], Field(description="The version of this format.")
    ]
    kind: Annotated[Literal["SplitwiseCluster"], Field(description="What the object is.")]
    metadata: Annotated[Metadata, Field(description="Name, namespace, labels, annotations.")]
    spec: Annotated[ClusterSpec, Field(description="What the cluster should be.")]

    @model_validator(mode="after")
    def _names_fit_kubernetes(self) -> "SplitwiseCluster":
        for part in ("endpoints", *(pool.name for pool in self.spec.pools)):
            name = f"{self.metadata.name}-{part}"
            if len(name) > NAME_LENGTH:
                raise ValueError(
                    f"metadata.name: {name!r} would be longer than the {NAME_LENGTH} characters "
                    "that Kubernetes allows; shorten the cluster's or the pool's name"
                )
        return self


class PoolSpec(_Model):
    """One pool of a cluster, as the object whose replicas are scaled."""

    cluster: Annotated[Name, Field(description="The SplitwiseCluster that the pool belongs to.")]
    pool: Annotated[Name, Field(description="The pool's name there.")]
    role: Annotated[
        Literal["prompt", "token", "mixed"], Field(description="The pool's role there.")
    ]
    replicas: Annotated[int, Field(ge=1, le=1000, description="Workers.")]


class SplitwisePool(_Model):
    """The replicas of one pool: created by the operator, named `<cluster>-<pool>`."""

    api_version: Literal["splitwise.dev/v1alpha1"]
    kind: Literal["SplitwisePool"]
    metadata: ObjectMeta
    spec: PoolSpec
