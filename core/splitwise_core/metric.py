"""What a metric is: the process it belongs to, its kind, unit, labels and buckets."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Gauge, Histogram


class Component(StrEnum):
    """The process that a metric belongs to."""

    ROUTER = "router"
    WORKER = "worker"
    SIDECAR = "sidecar"
    OPERATOR = "operator"
    EVERY = "every process"


def doubling(first: float, count: int) -> tuple[float, ...]:
    """`count` bucket bounds, each twice the one before."""
    return tuple(first * 2**power for power in range(count))


SECONDS: Final = doubling(0.001, 17)  # 1 ms to 65 s
STEP_SECONDS: Final = doubling(0.0005, 14)  # 0.5 ms to 4 s
TOKENS: Final = doubling(1, 18)  # 1 to 131,072


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: `labels` maps each label to where its bounded values come from."""

    component: Component
    kind: type[Counter] | type[Gauge] | type[Histogram]
    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


POOL: Final = ("role", "pool")

LABEL_VALUES: Final = {
    "role": "`prompt`, `token`, `mixed`",
    "pool": "pool names of the SplitwiseCluster",
    "from_pool": "pool names of the SplitwiseCluster",
    "to_pool": "pool names of the SplitwiseCluster",
    "outcome": "`Outcome` of kv.proto in lower case, or `ok`",
    "transport": "`shm`, `tcp`, `grpc`, or `none` where nothing was moved",
    "direction": "`sent`, `received`",
    "state": "see the metric's help",
    "namespace": "namespaces of SplitwiseClusters",
    "cluster": "names of SplitwiseClusters",
    "condition": "`Condition` of docs/conditions.md",
    "condition_status": "`True`, `False`, `Unknown`",
    "condition_reason": "`Reason` of docs/conditions.md",
    "bound": "`least`, `most`",
    "source": "`nvml`, `machine`",
    "objective": "`ttft`, `tbt`, `all`",
    "verdict": "`met`, `missed`",
    "kind": "`prompt`, `token`",
    "fate": "`Fate` of policy/draining.py",
    "move": "`moved`, `failed`, `needless` (the stream ended first)",
    "saves": "`compute`, `transfer`",
    "result": "`done`, `incomplete` (some object was refused), `failed`",
    "verb": "`apply`, `scale`, `delete`, `status`",
    "reason": "`Reason` of policy/placement.py, or `Outcome` of kv.proto in lower case",
    "scale_reason": "`Reason` of policy/scaling/law.py",
    "refusal": "`Refusal` of capability.py",
    "status": "HTTP status codes that the API sends",
    "endpoint": "`chat`, `completions`",
    "end": "`sent`, `failed`, `dropped`",
}
"""Where the values of each label come from: all of them are bounded."""


def page(metrics: Sequence[Metric]) -> str:
    """A table of every metric with its type, labels and meaning."""
    lines = ["# Metrics", ""]
    for component in Component:
        lines += [f"## {component.value}", "", "| metric | type | labels | meaning |"]
        lines += ["|---|---|---|---|"]
        for metric in metrics:
            if metric.component is component:
                labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
                kind = metric.kind.__name__.lower()
                lines.append(f"| `{metric.name}` | {kind} | {labels} | {metric.help} |")
        lines.append("")
    lines += ["## Labels", "", "| label | values |", "|---|---|"]
    used = sorted({label for metric in metrics for label in metric.labels})
    lines += [f"| `{label}` | {LABEL_VALUES[label]} |" for label in used]
    return "\n".join([*lines, ""])
