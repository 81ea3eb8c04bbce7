"""What routers tell at /load, as records. Documents in, records out: nothing in them is trusted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from splitwise_cli.top.differences import Times

TIMES: Final = ("ttft", "tbt", "e2e", "queue", "prefill", "transfer", "firstDecode")
GROWING: Final = ("promptTokens", "outputTokens", "kvBytes", "rejected", "retried")
"""Counters of a router."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The workers of one pool together, as a router sees them."""

    name: str
    role: str
    workers: int = 0
    ready: int = 0
    draining: int = 0
    borrowed: int = 0
    utilisation: float = 0.0
    queued_requests: int = 0
    queued_tokens: int = 0
    backlog_s: float = 0.0
    running: int = 0
    max_sequences: int = 0
    kv_blocks: int = 0
    free_kv_blocks: int = 0


@dataclass(frozen=True, slots=True)
class RouterReading:
    """One router: what is now, and counters since it began, at `began_unix_s`."""

    at_unix_s: float
    began_unix_s: float
    model: str
    why_not_ready: str | None
    running: int
    waiting: int
    waiting_tokens: int
    expected_wait_s: float
    answered: int
    failed: int
    counters: Mapping[str, float]
    times: Mapping[str, Times]
    pools: Sequence[Pool]
    transfer: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Workers of a pool that there should be, and the reason that the operator last gave."""

    desired: int
    scaled: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """All that was seen of a cluster at one time. `missing` says why routers are silent."""

    name: str
    routers: Mapping[str, RouterReading]
    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


def router_reading(document: Any) -> RouterReading:
    """One router's answer as a record. Raises ValueError for anything else."""
    try:
        requests = document["requests"]
        statuses = {str(code): _count(n) for code, n in requests["answered"].items()}
        answered = statuses.get("200", 0)
        return RouterReading(
            at_unix_s=_number(document["unixSeconds"]),
            began_unix_s=_number(document["startedUnixSeconds"]),
            model=str(document["model"]),
            why_not_ready=None if document["ready"] else str(document["why"]),
            running=_count(requests["running"]),
            waiting=_count(requests["waiting"]),
            waiting_tokens=_count(requests["waitingPromptTokens"]),
            expected_wait_s=_number(requests["expectedWaitSeconds"]),
            answered=answered,
            failed=sum(statuses.values()) - answered,
            counters={name: _number(requests[name]) for name in GROWING},
            times={name: _times(document["times"][name]) for name in TIMES},
            pools=tuple(_pool(each) for each in document["pools"]),
            transfer=tuple(_pair(each) for each in document["transfer"]),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"that is no router's /load: {error!r}") from error


def _pool(row: Mapping[str, Any]) -> Pool:
    return Pool(
        name=str(row["pool"]),
        role=str(row["role"]),
        workers=_count(row["workers"]),
        ready=_count(row["ready"]),
        draining=_count(row["draining"]),
        borrowed=_count(row["borrowed"]),
        utilisation=_number(row["utilisation"]),
        queued_requests=_count(row["queuedRequests"]),
        queued_tokens=_count(row["queuedTokens"]),
        backlog_s=_number(row["backlogSeconds"]),
        running=_count(row["running"]),
        max_sequences=_count(row["maxSequences"]),
        kv_blocks=_count(row["kvBlocks"]),
        free_kv_blocks=_count(row["freeKvBlocks"]),
    )


def _pair(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "from": str(row["from"]),
        "to": str(row["to"]),
        "transport": str(row["transport"]),
        "bytesPerSecond": _number(row["bytesPerSecond"]),
        "failing": _count(row["failing"]),
        "pairs": _count(row["pairs"]),
    }


def _times(row: Mapping[str, Any]) -> Times:
    bounds = tuple(_number(bound) for bound in row["bounds"])
    return Times(bounds, tuple(_count(count) for count in row["counts"]), _number(row["sum"]))


def _count(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is no count")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is no number")
    return float(value)
