"""Who sets a pool's replicas, and by what law, as a cluster may be told."""

from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from splitwise_core.fields import SpecModel

Day = Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
DAYS: tuple[Day, ...] = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
Clock = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")]
"""A time of day, as 08:30."""

MOST_PERIODS: Final = 16
"""Of one pool's schedule."""


def is_time_zone(name: str) -> bool:
    """Whether the IANA's data base has a zone of this name."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


class LoadTargets(SpecModel):
    """How much load there may be before a pool grows."""

    backlog_seconds: Annotated[
        float,
        Field(
            ge=0.05,
            le=600,
            description="Prompt work that may wait for each prompt worker. Four prompts may, and "
            "no more than half of `router.maxQueueSeconds`.",
        ),
    ] = 1.5
    kv_ratio: Annotated[
        float,
        Field(ge=0.1, le=0.95, description="Part of a token pool's KV memory that may be taken."),
    ] = 0.8


class SloTargets(SpecModel):
    """Latencies that the pools are sized for."""

    ttft_seconds: Annotated[
        float, Field(ge=0.01, le=600, description="Time to the first token, queueing counted in.")
    ]
    tbt_seconds: Annotated[
        float, Field(ge=0.001, le=60, description="Time between two tokens: a step of decoding.")
    ]
    percentile: Annotated[
        int, Field(ge=50, le=99, description="The part of requests and tokens that is in time.")
    ] = 90


class Behavior(SpecModel):
    """How fast a pool may change."""

    up_window_seconds: Annotated[int, Field(ge=2, le=3600, description="Between two steps up.")] = (
        10
    )
    down_window_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=86400,
            description="For so long fewer workers must have done, and nothing have changed, "
            "before a step down.",
        ),
    ] = 300
    pending_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=86400,
            description="Workers that get no node for so long are given up, and asked for again "
            "after as long.",
        ),
    ] = 300
    idle_seconds: Annotated[
        int,
        Field(
            ge=10,
            le=86400,
            description="After so long without a request all pools go to zero together, where "
            "`minReplicas` is 0.",
        ),
    ] = 600


class Period(SpecModel):
    """Hours in which a pool has more workers at least."""

    days: Annotated[
        list[Day], Field(min_length=1, max_length=7, description="Days on which it begins.")
    ] = list(DAYS)
    begins: Annotated[Clock, Field(description="Time of day, as 08:30.")]
    ends: Annotated[Clock, Field(description="Time of day; on the next day when it is earlier.")]
    time_zone: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}$",
            max_length=64,
            description="Of both times, as the IANA names it, such as Europe/Berlin.",
        ),
    ] = "UTC"
    min_replicas: Annotated[int, Field(ge=1, le=1000, description="Workers at least.")]

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if not is_time_zone(value):
            raise ValueError(f"{value!r} is no time zone; write one as Europe/Berlin")
        return value


class Autoscaling(SpecModel):
    """Who sets a pool's replicas, and within what."""

    by: Annotated[
        Literal["External", "Load", "SLO"],
        Field(
            description="Load: the operator, by what waits and what memory is taken. SLO: the "
            "operator, by the latencies in `slo`. External: whatever scales the SplitwisePool "
            "`<cluster>-<pool>`, such as a HorizontalPodAutoscaler, KEDA or `kubectl scale`."
        ),
    ]
    min_replicas: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="Workers at least. 0, by Load or SLO and in all pools alike, lets all of "
            "them go to zero together while nobody asks.",
        ),
    ] = 1
    max_replicas: Annotated[int, Field(ge=1, le=1000, description="Workers at most.")]
    load: Annotated[
        LoadTargets, Field(description="Of Load, and of SLO beside its own; see docs/scaling.md.")
    ] = LoadTargets()
    slo: Annotated[SloTargets | None, Field(description="Of SLO alone.")] = None
    behavior: Annotated[Behavior, Field(description="Windows and deadlines.")] = Behavior()
    schedule: Annotated[
        list[Period],
        Field(max_length=MOST_PERIODS, description="More workers at least at certain hours."),
    ] = []

    @property
    def is_ours(self) -> bool:
        """Whether the operator decides."""
        return self.by != "External"

    @model_validator(mode="after")
    def _parts_fit(self) -> "Autoscaling":
        if self.min_replicas > self.max_replicas:
            raise ValueError("minReplicas: it is above maxReplicas; lower it")
        if self.min_replicas == 0 and not self.is_ours:
            raise ValueError("minReplicas: by External it is at least 1; write by: Load for 0")
        if self.by == "SLO" and self.slo is None:
            raise ValueError("slo: by SLO needs targets; say ttftSeconds and tbtSeconds")
        if self.by != "SLO" and self.slo is not None:
            raise ValueError("slo: only by SLO uses it; write by: SLO, or leave it out")
        if any(period.min_replicas > self.max_replicas for period in self.schedule):
            raise ValueError("schedule: a minReplicas is above maxReplicas; lower it")
        if self.schedule and not self.is_ours:
            raise ValueError("schedule: by External uses none; write by: Load, or leave it out")
        return self


class Ratio(SpecModel):
    """Prompt workers for each token worker."""

    min: Annotated[float, Field(ge=0.01, le=100, description="At least.")]
    max: Annotated[float, Field(ge=0.01, le=100, description="At most.")]

    @model_validator(mode="after")
    def _there_is_something_between(self) -> "Ratio":
        if self.min > self.max:
            raise ValueError("min: it is above max; lower it")
        return self
