"""The part of a SplitwiseCluster that says what a pool is, and what its pods are."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from splitwise_core.fields import LabelKey, LabelValue, Name, ResourceName, SpecModel, not_ours
from splitwise_core.quantity import CPU, MEMORY, quantity_between
from splitwise_core.spec_autoscaling import Autoscaling


class Resources(SpecModel):
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


class Gpu(SpecModel):
    """GPUs of one worker, by the resource name of the device plugin."""

    resource: Annotated[
        ResourceName,
        Field(description="As the device plugin names it, such as nvidia.com/gpu."),
    ] = "nvidia.com/gpu"
    count: Annotated[int, Field(ge=1, le=1, description="A worker drives one GPU.")] = 1


class Toleration(SpecModel):
    """A taint of nodes that pods put up with, as in Kubernetes."""

    key: Annotated[LabelKey | None, Field(description="The taint's key; any without it.")] = None
    operator: Annotated[
        Literal["Exists", "Equal"], Field(description="Equal compares the value too.")
    ] = "Equal"
    value: Annotated[LabelValue | None, Field(description="The taint's value.")] = None
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None,
        Field(description="The taint's effect; every effect without it."),
    ] = None
    toleration_seconds: Annotated[
        int | None, Field(ge=0, le=2**31 - 1, description="How long, for NoExecute.")
    ] = None

    @model_validator(mode="after")
    def _parts_fit(self) -> "Toleration":
        if self.key is None and self.operator == "Equal":
            raise ValueError("operator: without a key it is Exists; write operator: Exists")
        if self.operator == "Exists" and self.value:
            raise ValueError("value: Exists compares no value; leave it out, or use Equal")
        return self


class Machine(SpecModel):
    """What one worker's machine costs, draws and can do: for metrics, which say what is estimated.

    Nothing is decided by it.
    """

    dollars_per_hour: Annotated[
        float | None,
        Field(ge=0, le=10_000, description="Price of one worker's share of a machine."),
    ] = None
    idle_watts: Annotated[
        float | None, Field(ge=0, le=100_000, description="What it draws while it does nothing.")
    ] = None
    prompt_watts: Annotated[
        float | None,
        Field(ge=0, le=100_000, description="What it draws while it computes prompts."),
    ] = None
    token_watts: Annotated[
        float | None, Field(ge=0, le=100_000, description="What it draws while it decodes.")
    ] = None
    peak_flops_per_second: Annotated[
        float | None,
        Field(
            gt=0,
            le=1e18,
            description="What it computes at most, in the type of the weights, without sparsity; "
            "known of some GPUs without it.",
        ),
    ] = None
    peak_bytes_per_second: Annotated[
        float | None,
        Field(
            gt=0,
            le=1e15,
            description="What its memory reads at most; known of some GPUs without it.",
        ),
    ] = None

    @model_validator(mode="after")
    def _watts_are_whole(self) -> "Machine":
        watts = (self.idle_watts, self.prompt_watts, self.token_watts)
        if any(one is None for one in watts) and any(one is not None for one in watts):
            raise ValueError("idleWatts, promptWatts and tokenWatts go together; give all or none")
        return self


class PodMetadata(SpecModel):
    """Labels and annotations of pods."""

    labels: Annotated[
        dict[LabelKey, LabelValue], Field(description="splitwise.dev/ is taken.")
    ] = {}
    annotations: Annotated[dict[LabelKey, str], Field(description="Such as of a mesh.")] = {}

    @field_validator("labels")
    @classmethod
    def _ours_are_not_given(cls, value: dict[str, str]) -> dict[str, str]:
        return not_ours(value)


class Pod(SpecModel):
    """What a user adds to our pods: a pod template of Kubernetes, merged by container name."""

    metadata: Annotated[PodMetadata, Field(description="Labels and annotations.")] = PodMetadata()
    spec: Annotated[
        dict[str, Any],
        Field(
            description="Any part of a PodSpec. Lists of named things (containers, "
            "initContainers, env, volumes) are merged by name, others take the place of ours."
        ),
    ] = {}


class Pool(SpecModel):
    """Workers of one role on one kind of node."""

    name: Name
    role: Annotated[
        Literal["prompt", "token", "mixed"],
        Field(description="prompt computes prompts, token generates; mixed does both."),
    ]
    replicas: Annotated[
        int | None,
        Field(
            ge=1,
            le=1000,
            description="Workers; 1 without it and autoscaling. `kubectl scale` of the "
            "SplitwisePool holds until this is changed.",
        ),
    ] = None
    autoscaling: Annotated[Autoscaling | None, Field(description="In the place of `replicas`.")] = (
        None
    )
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
    max_tbt_seconds: Annotated[
        float | None,
        Field(
            ge=0.001,
            le=60,
            description="Mean time between the tokens of an answer. Workers measure their steps, "
            "and take no more sequences than they can serve at this pace; without it, as many as "
            "`maxSequences` and memory allow.",
        ),
    ] = None
    resources: Annotated[Resources, Field(description="CPU and memory of one worker.")] = (
        Resources()
    )
    gpu: Annotated[Gpu | None, Field(description="Workers compute on a CPU without it.")] = None
    node_selector: Annotated[
        dict[LabelKey, LabelValue], Field(description="Labels of the nodes that take the pods.")
    ] = {}
    tolerations: Annotated[
        list[Toleration], Field(max_length=16, description="Taints that the pods put up with.")
    ] = []
    machine: Annotated[
        Machine, Field(description="Price, power and peaks, for estimates in metrics.")
    ] = Machine()
    pod_template: Annotated[
        Pod,
        Field(
            description="Goes over the pods; their containers are `worker` and the sidecar `kv`."
        ),
    ] = Pod()

    @property
    def seed(self) -> int:
        """Workers that the pool begins with."""
        if self.autoscaling is not None:
            return max(1, self.autoscaling.min_replicas)
        return self.replicas or 1

    @property
    def sleeps(self) -> bool:
        """Whether it goes to zero, together with all others, while nobody asks."""
        return self.autoscaling is not None and self.autoscaling.min_replicas == 0

    @model_validator(mode="after")
    def _one_says_how_many(self) -> "Pool":
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError("replicas: autoscaling says how many too; leave out one of them")
        return self

    @field_validator("kv_memory", mode="before")
    @classmethod
    def _is_quantity(cls, value: object) -> object:
        return quantity_between(value, *MEMORY)
