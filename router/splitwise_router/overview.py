"""What GET /load says: the workers, what they hold, and all that this router has counted.

`splitwise top` and the page at /status are made of it. There is nothing of any request in it, nor
an address; and it is bounded: a row a pool, and WORKERS_SHOWN workers.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from typing import Any, Final

from prometheus_client import Counter, Histogram

from splitwise_core.metric import Metric
from splitwise_core.metrics.router import (
    E2E,
    EXPECTED_WAIT,
    HTTP_REQUESTS,
    INFLIGHT_REQUESTS,
    KV_BYTES,
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    REJECTED_REQUESTS,
    RETRIES,
    STAGE_FIRST_DECODE,
    STAGE_PREFILL,
    STAGE_QUEUE,
    STAGE_TRANSFER,
    TBT,
    TTFT,
)
from splitwise_core.policy.admission import backlog_s
from splitwise_core.telemetry import Telemetry
from splitwise_router.fleet import Fleet
from splitwise_router.pool_links import by_pools
from splitwise_router.session import Session

WORKERS_SHOWN: Final = 200
"""Of more workers the busiest are listed; pools count all of them."""

KEPT_S: Final = 0.25
"""However many look, the document is made four times a second at most."""

TIMES: Final[Mapping[str, Metric]] = {
    "ttft": TTFT,
    "tbt": TBT,
    "e2e": E2E,
    "queue": STAGE_QUEUE,
    "prefill": STAGE_PREFILL,
    "transfer": STAGE_TRANSFER,
    "firstDecode": STAGE_FIRST_DECODE,
}
"""Histograms by their names in the document."""


class Overview:
    """Makes the document for one router."""

    def __init__(
        self,
        model: str,
        fleet: Fleet,
        telemetry: Telemetry,
        waiting: Callable[[], Mapping[str, int]],
    ) -> None:
        self._model = model
        self._fleet = fleet
        self._telemetry = telemetry
        self._waiting = waiting
        self._started = time.time()
        self._kept = b""
        self._kept_until_s = -inf

    def body(self) -> bytes:
        """The document as JSON, at most KEPT_S old."""
        now_s = time.monotonic()
        if now_s >= self._kept_until_s:
            self._kept = json.dumps(self._document()).encode()
            self._kept_until_s = now_s + KEPT_S
        return self._kept

    def _document(self) -> dict[str, Any]:
        sessions = self._fleet.sessions
        why_not = self._fleet.not_ready()
        links = by_pools(sessions, self._fleet.links)
        return {
            "model": self._model,
            "unixSeconds": time.time(),
            "startedUnixSeconds": self._started,
            "ready": why_not is None,
            "why": why_not,
            "requests": self._requests(),
            "times": {name: times(self._telemetry.histogram(m)) for name, m in TIMES.items()},
            **fleet_rows([worker_row(session) for session in sessions]),
            "transfer": [pair.entry() for pair in links if pair.links],
        }

    def _requests(self) -> dict[str, Any]:
        """What runs and waits now, and counters since this router began."""
        gauge, waiting = self._telemetry.gauge, self._waiting()
        return {
            "running": int(_value(gauge(INFLIGHT_REQUESTS).collect())),
            "waiting": waiting["requests"],
            "waitingPromptTokens": waiting["promptTokens"],
            "expectedWaitSeconds": _value(gauge(EXPECTED_WAIT).collect()),
            "answered": self._answered(),
            "rejected": self._total(REJECTED_REQUESTS),
            "retried": self._total(RETRIES),
            "promptTokens": self._total(PROMPT_TOKENS),
            "outputTokens": self._total(OUTPUT_TOKENS),
            "kvBytes": self._total(KV_BYTES),
        }

    def _answered(self) -> dict[str, int]:
        """Answers by HTTP status."""
        found: dict[str, int] = {}
        for labels, value in _totals(self._telemetry.family(HTTP_REQUESTS)):
            found[labels["status"]] = found.get(labels["status"], 0) + int(value)
        return found

    def _total(self, metric: Metric) -> int:
        return int(sum(value for _, value in _totals(self._telemetry.family(metric))))


def times(histogram: Histogram) -> dict[str, Any]:
    """A histogram: bounds in seconds but for the infinite one, counts up to each bound, and sum."""
    bounds: list[float] = []
    counts: list[int] = []
    total_s = 0.0
    for sample in next(iter(histogram.collect())).samples:
        if sample.name.endswith("_bucket"):
            bounds.append(float(sample.labels["le"]))
            counts.append(int(sample.value))
        elif sample.name.endswith("_sum"):
            total_s = sample.value
    return {"bounds": bounds[:-1], "counts": counts, "sum": total_s}


def worker_row(session: Session) -> dict[str, Any]:
    """One worker as it has told of itself; zeros while it is not connected."""
    info, load = session.info, session.load
    return {
        "pod": session.endpoint.pod,
        "pool": session.endpoint.pool,
        "role": session.endpoint.role,
        "ready": session.usable,
        "draining": load.draining,
        "borrowed": load.borrowed,
        "utilisation": round(session.busy.share, 4),
        "queuedRequests": load.queued_requests,
        "queuedTokens": load.queued_tokens,
        "promptTokensPerSecond": round(load.prompt_tokens_per_s, 1),
        "running": load.running,
        "maxSequences": info.max_sequences if info else 0,
        "kvBlocks": info.num_blocks if info else 0,
        "freeKvBlocks": load.free_blocks,
    }


_ADDED_UP: Final = (
    "queuedRequests",
    "queuedTokens",
    "running",
    "maxSequences",
    "kvBlocks",
    "freeKvBlocks",
)
_COUNTED: Final = ("ready", "draining", "borrowed")


def fleet_rows(workers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The pools in the order of a request's way, and the workers of each."""
    order = {"prompt": 0, "mixed": 1, "token": 2}
    rank = {row["pool"]: (order.get(row["role"], 3), row["pool"]) for row in workers}
    pools = [
        _pool([row for row in workers if row["pool"] == pool])
        for pool in sorted(rank, key=lambda pool: rank[pool])
    ]
    busiest = sorted(workers, key=lambda row: (-row["utilisation"], row["pod"]))[:WORKERS_SHOWN]
    shown = sorted(busiest, key=lambda row: (rank[row["pool"]], row["pod"]))
    return {"pools": pools, "workers": shown, "workersLeftOut": len(workers) - len(shown)}


def _pool(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A pool: sums over its workers, and means over those that are ready."""
    ready = [row for row in rows if row["ready"]]
    speed = sum(row["promptTokensPerSecond"] for row in ready)
    sums = {name: sum(row[name] for row in rows) for name in _ADDED_UP}
    return {
        "pool": rows[0]["pool"],
        "role": rows[0]["role"],
        "workers": len(rows),
        **{name: sum(row[name] for row in rows) for name in _COUNTED},
        "utilisation": round(sum(row["utilisation"] for row in ready) / max(1, len(ready)), 4),
        **sums,
        "backlogSeconds": round(backlog_s(sums["queuedTokens"], speed), 4),
    }


def _totals(counter: Counter) -> Iterable[tuple[Mapping[str, str], float]]:
    for sample in next(iter(counter.collect())).samples:
        if sample.name.endswith("_total"):
            yield sample.labels, sample.value


def _value(families: Iterable[Any]) -> float:
    return float(next(iter(families)).samples[0].value)
