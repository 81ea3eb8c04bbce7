"""How a cluster is watched, as far as its own processes take part in it."""

from typing import Annotated, Literal

from pydantic import Field

from splitwise_core.fields import SpecModel


class Traces(SpecModel):
    """Where routers, workers and sidecars send the spans of requests."""

    endpoint: Annotated[
        str,
        Field(
            min_length=1,
            max_length=300,
            pattern=r"^https?://[^\s/]+$",
            description="An OpenTelemetry collector that takes OTLP over gRPC, such as "
            "http://collector.observability:4317.",
        ),
    ]
    sample_ratio: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the requests that are traced; those that a client samples "
            "itself always are.",
        ),
    ] = 0.1


class Monitoring(SpecModel):
    """What the cluster's processes say of themselves, beyond their metrics."""

    traces: Annotated[
        Traces | None,
        Field(description="Traces of requests; without it nobody records any. docs/tracing.md"),
    ] = None
    log_format: Annotated[
        Literal["text", "json"],
        Field(description="Of the logs of routers, workers and sidecars: a line a record."),
    ] = "text"
