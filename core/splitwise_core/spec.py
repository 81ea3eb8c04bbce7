"""SplitwiseCluster and SplitwisePool as pydantic models: what a cluster may be told."""

from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from splitwise_core.crd_rules import SLEEP_ADVICE
from splitwise_core.fields import (
    GROUP,
    NAME_LENGTH,
    LabelKey,
    LabelValue,
    Name,
    ObjectName,
    SpecModel,
    not_ours,
)
from splitwise_core.policy.admission import MAX_QUEUE_S
from splitwise_core.spec_autoscaling import Ratio, SloTargets
from splitwise_core.spec_monitoring import Monitoring
from splitwise_core.spec_pool import Pod, Pool
from splitwise_core.spec_scheduling import Scheduling
from splitwise_core.spec_transfer import Transfer

API_VERSION: Final = f"{GROUP}/v1alpha1"


class ObjectMeta(SpecModel):
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
        return not_ours(value)


class Model(SpecModel):
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
            description="Directory in Hugging Face format: on every node, or in `claim`. "
            "`splitwise up` and `splitwise render` resolve a relative path against the file; ~ is "
            "not expanded. In Kubernetes it begins with /.",
        ),
    ]
    claim: Annotated[
        ObjectName | None,
        Field(description="PersistentVolumeClaim that holds the model; `path` begins at its root."),
    ] = None
    max_length: Annotated[
        int | None,
        Field(ge=16, description="Context in tokens; the model's own limit when left out."),
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16", "int8"],
        Field(description="Weights: auto is bfloat16 on a GPU and float32 on a CPU."),
    ] = "auto"


class Router(SpecModel):
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
    max_queue_seconds: Annotated[
        float,
        Field(
            ge=0.1,
            le=600,
            description="Who is expected to wait longer until its prompt is computed, or has, gets "
            "429 and is told when to come back.",
        ),
    ] = MAX_QUEUE_S
    wake_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=3600,
            description="A request that finds all pools at zero waits so long for the first "
            "workers; then 503.",
        ),
    ] = 120
    max_body_bytes: Annotated[
        int, Field(ge=1024, le=2**28, description="A longer request body is refused with 413.")
    ] = 2**21
    retries: Annotated[
        int, Field(ge=0, le=10, description="New attempts of a request whose worker was lost.")
    ] = 2
    status_page: Annotated[
        bool,
        Field(
            description="Whether a browser finds a live picture of the pools at /status on the "
            "API's port; docs/views.md says what it discloses."
        ),
    ] = False
    request_log: Annotated[
        Literal["off", "requests", "placements"],
        Field(
            description="What routers log of requests: nothing; of each a line of sizes and times, "
            "which `splitwise simulate --trace` reads where `monitoring.logFormat` is json; or "
            "all that each placement was chosen by, too."
        ),
    ] = "off"
    pod_template: Annotated[
        Pod, Field(description="Goes over the routers' pods; their container is `router`.")
    ] = Pod()


class Rollout(SpecModel):
    """How pods are replaced and removed."""

    drain_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=86400,
            description="What has begun on a worker or router that is to end has so long to end "
            "by itself; a pod's termination grace is 10 s longer.",
        ),
    ] = 20


class NetworkPolicy(SpecModel):
    """Who may open connections to the cluster's pods."""

    enabled: Annotated[
        bool,
        Field(
            description="Workers take requests from this cluster's routers and KV from its "
            "workers; metrics and the API are open."
        ),
    ] = True


class ClusterSpec(SpecModel):
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
    ratio: Annotated[
        Ratio | None,
        Field(
            description="What the operator keeps when it scales: pools of role prompt over pools "
            "of role token. Where bounds leave no way, they win."
        ),
    ] = None
    slo: Annotated[
        SloTargets | None,
        Field(
            description="Objectives that the routers count requests by, and alerts watch. Without "
            "it, the strictest of the pools that are scaled by SLO."
        ),
    ] = None
    router: Annotated[Router, Field(description="The HTTP API.")] = Router()
    rollout: Annotated[Rollout, Field(description="How pods are replaced.")] = Rollout()
    monitoring: Annotated[
        Monitoring, Field(description="What the processes say of themselves.")
    ] = Monitoring()
    network_policy: Annotated[
        NetworkPolicy, Field(description="Who may connect to what; Kubernetes only.")
    ] = NetworkPolicy()

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
        if len({pool.sleeps for pool in value}) > 1:
            raise ValueError(SLEEP_ADVICE)
        return value

    @property
    def sleeps(self) -> bool:
        """Whether all pools go to zero together while nobody asks."""
        return all(pool.sleeps for pool in self.pools)

    @property
    def objectives(self) -> SloTargets | None:
        """What requests are counted by: those of the cluster, else the strictest of its pools."""
        if self.slo is not None:
            return self.slo
        asked = [pool.autoscaling.slo for pool in self.pools if pool.autoscaling is not None]
        given = [one for one in asked if one is not None]
        if not given:
            return None
        strictest = {
            "ttft_seconds": min(one.ttft_seconds for one in given),
            "tbt_seconds": min(one.tbt_seconds for one in given),
            "percentile": max(one.percentile for one in given),
        }
        return given[0].model_copy(update=strictest)


class SplitwiseCluster(SpecModel):
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


class PoolSpec(SpecModel):
    """One pool of a cluster, as the object whose replicas are scaled."""

    cluster: Annotated[Name, Field(description="The SplitwiseCluster that the pool belongs to.")]
    pool: Annotated[Name, Field(description="The pool's name there.")]
    role: Annotated[
        Literal["prompt", "token", "mixed"], Field(description="The pool's role there.")
    ]
    replicas: Annotated[int, Field(ge=0, le=1000, description="Workers.")]
    sleeps: Annotated[
        bool,
        Field(description="Whether the operator may set 0 replicas, in all pools together."),
    ] = False


class SplitwisePool(SpecModel):
    """The replicas of one pool: created by the operator, named `<cluster>-<pool>`."""

    api_version: Literal["splitwise.dev/v1alpha1"]
    kind: Literal["SplitwisePool"]
    metadata: ObjectMeta
    spec: PoolSpec
