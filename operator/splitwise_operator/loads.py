"""Answers of workers and routers on their load, as records. Pure: documents in, records out.

They come from pods that users' images may run in: nothing in them is taken for granted.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from splitwise_core.policy.scaling import Held, WorkerLoad
from splitwise_core.policy.scaling.signals import BOUNDS_S

MOST: Final = 1e15
"""Seconds beyond it are no time that a worker has run."""

_SECONDS: Final = ("prompt_s_total", "step_s_total")
_COUNTS: Final = ("ttft_counts", "tbt_counts")


def load_of(document: Any) -> WorkerLoad:
    """A worker's load. Raises ValueError for anything else."""
    try:
        made = WorkerLoad(**{one.name: _field(one.name, document[one.name]) for one in _FIELDS})
    except (KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not as a worker answers: {error!r}") from error
    return made


def held_of(document: Any) -> Held:
    """What waits at a router, and what it turns away. Raises ValueError for anything else.

    A router of an older image says nothing of what it turns away.
    """
    try:
        return Held(
            requests=_whole(document["requests"]),
            prompt_tokens=_whole(document["promptTokens"]),
            kv_tokens=_whole(document["kvTokens"]),
            placed_tokens=_whole(document.get("placedTokens", 0)),
            refused_tokens=_whole(document.get("refusedTokens", 0)),
        )
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not as a router answers: {error!r}") from error


def held_by(routers: Sequence[Held]) -> Held:
    """What waits at all routers, and what all of them turn away."""
    return Held(
        sum(one.requests for one in routers),
        sum(one.prompt_tokens for one in routers),
        sum(one.kv_tokens for one in routers),
        placed_tokens=sum(one.placed_tokens for one in routers),
        refused_tokens=sum(one.refused_tokens for one in routers),
    )


_FIELDS: Final = fields(WorkerLoad)


def _field(name: str, value: Any) -> Any:
    if name in _COUNTS:
        if not isinstance(value, list) or len(value) != len(BOUNDS_S) + 1:
            raise ValueError(f"{name}: not {len(BOUNDS_S) + 1} counts")
        return tuple(_whole(one) for one in value)
    if name not in _SECONDS:
        return _whole(value)
    if not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise ValueError(f"{name}: {value!r} is no time")
    return float(value)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 2**64:
        raise ValueError(f"{value!r} is no count")
    return value
