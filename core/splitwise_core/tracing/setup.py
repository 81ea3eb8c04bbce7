"""From OpenTelemetry's own environment variables to a recorder and a thread that exports."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from splitwise_core.errors import UserError
from splitwise_core.metric import Component
from splitwise_core.metrics.process import SPANS
from splitwise_core.telemetry import Telemetry
from splitwise_core.tracing.ahead import Ahead, Sample
from splitwise_core.tracing.context import SpanContext
from splitwise_core.tracing.recorder import OFF, Attribute, Recorder

EXPORTER: Final = "OTEL_TRACES_EXPORTER"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")

SAMPLER: Final = "OTEL_TRACES_SAMPLER"

DELAY: Final = ("OTEL_BSP_SCHEDULE_DELAY", 5000)  # ms
MOST: Final = ("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
BATCH: Final = ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)


def _never(parent: tuple[SpanContext, bool] | None) -> SpanContext | None:
    return None


def _nothing() -> None:
    """There is nothing to close, or to decide."""


@dataclass(frozen=True, slots=True)
class Tracing:
    """What a process traces with; `close` sends what is left, within two seconds.

    `sample` is quick where `decide_ahead` was called once for each request before.
    """

    recorder: Recorder = OFF
    sample: Sample = _never
    decide_ahead: Callable[[], None] = _nothing
    close: Callable[[], None] = _nothing


def open_tracing(
    component: Component,
    environment: Mapping[str, str],
    telemetry: Telemetry,
    attributes: Mapping[str, Attribute],
) -> Tracing:
    """As the environment asks for, which is for nothing unless it names an endpoint or exporter.

    `attributes` say which process it is. Raises UserError for what cannot be done.
    """
    if not _is_wanted(environment):
        return Tracing()
    for name in PROTOCOLS:
        if (protocol := environment.get(name, "grpc")) != "grpc":
            raise _wrong(name, f"{protocol!r} is not spoken here", "set it to grpc, or unset it")
    batch, most = _number(environment, *BATCH), _number(environment, *MOST)
    try:
        from splitwise_core.tracing.exporter import Exporter
    except ImportError as error:
        raise _wrong(
            next(name for name in (EXPORTER, *ENDPOINTS) if name in environment),
            f"traces are asked for, and {error.name} is not installed",
            "install splitwise[tracing], or unset the variable",
        ) from error
    counters = {end: telemetry.counter(SPANS, end=end) for end in ("sent", "failed", "dropped")}
    recorder = Recorder(most, min(batch, most), counters["dropped"].inc)
    exporter = Exporter(
        recorder,
        _number(environment, *DELAY) / 1e3,
        {"service.name": f"splitwise-{component}", **attributes},
        {end: counter.inc for end, counter in counters.items()},
        is_default_sampler=SAMPLER not in environment,
    )
    exporter.start()
    ahead = Ahead(exporter.sample)
    return Tracing(recorder, ahead.sample, ahead.decide, exporter.close)


def _is_wanted(environment: Mapping[str, str]) -> bool:
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get(EXPORTER, "").strip()
    if exporter not in ("", "otlp", "none"):
        raise _wrong(EXPORTER, f"{exporter!r} is neither otlp nor none", "set it to one of them")
    return exporter == "otlp" or (not exporter and any(environment.get(name) for name in ENDPOINTS))


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise _wrong(
            name, f"{text!r} is no whole number above 0", f"set it to {default}, or unset it"
        )
    return int(text)


def _wrong(where: str, wrong: str, fix: str) -> UserError:
    return UserError("environment", where=where, wrong=wrong, fix=fix)
