"""What a cluster's `monitoring` comes to in its processes' environments."""

from typing import Final

from splitwise_core.logs import FORMAT
from splitwise_core.spec_monitoring import Monitoring, Traces
from splitwise_operator.names import Object

_SAMPLER: Final = "parentbased_traceidratio"


def environment(monitoring: Monitoring) -> list[Object]:
    """Variables of every container of ours; none unless they are asked for."""
    variables: dict[str, str] = {}
    if monitoring.log_format != "text":
        variables[FORMAT] = monitoring.log_format
    if monitoring.traces is not None:
        variables |= _traces(monitoring.traces)
    return [{"name": name, "value": value} for name, value in variables.items()]


def _traces(traces: Traces) -> dict[str, str]:
    """OpenTelemetry's own variables, so that a pod template may say more, or otherwise."""
    return {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces.endpoint,
        "OTEL_TRACES_SAMPLER": _SAMPLER,
        "OTEL_TRACES_SAMPLER_ARG": f"{traces.sample_ratio:g}",
    }
