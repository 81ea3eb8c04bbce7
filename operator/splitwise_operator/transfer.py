"""What status says of links between pools, from what a router has told. Pure.

Measured numbers are never twice the same, and a status that is written for each of them would wake
everybody who watches it. So an entry stays as it is until it says something else.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from splitwise_operator.names import Object

MUCH: Final = 2.0
"""A rate or a latency so many times what stands there is another one."""

RENEWED_S: Final = 600.0
"""What stands there is kept for so long, when only numbers have changed."""

MAX_ENTRIES: Final = 2500
"""Pairs of the 50 pools that a cluster may have."""

_TEXTS: Final = ("from", "to", "transport", "measuredAt")
_COUNTS: Final = ("bytesPerSecond", "pairs", "measured", "failing")
_TOLD: Final = 300
"""Characters of a text that status repeats."""


def entries_of(document: Any) -> list[Object]:
    """The entries in a router's answer. Raises ValueError when it is none."""
    try:
        listed = document["transfer"]
        if not isinstance(listed, list) or len(listed) > MAX_ENTRIES:
            raise ValueError("no list, or too long a one")
        made = [_entry(item) for item in listed]
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"not as a router answers: {error!r}") from error
    return list({(entry["from"], entry["to"]): entry for entry in made}.values())


def _entry(item: Mapping[str, Any]) -> Object:
    made: Object = {key: str(item[key])[:_TOLD] for key in _TEXTS}
    made |= {key: max(0, int(item[key])) for key in _COUNTS}
    made["latencySeconds"] = max(0.0, float(item["latencySeconds"]))
    _unix_s(made)
    return made | {"reason": str(item["reason"])[:_TOLD]} if item.get("reason") else made


def settled(before: Sequence[Object], read: Sequence[Object]) -> list[Object]:
    """What status should say: of each pair of pools what stands there, or what was read."""
    old = {(entry["from"], entry["to"]): entry for entry in before}
    return [_newer(old.get((entry["from"], entry["to"])), entry) for entry in read]


def cut_off(entries: Sequence[Object]) -> list[Object]:
    """Pairs of pools between which no measured link works."""
    return [entry for entry in entries if 0 < entry["measured"] <= entry["failing"]]


def _newer(before: Object | None, now: Object) -> Object:
    return now if before is None or _is_news(before, now) else before


def _is_news(before: Object, now: Object) -> bool:
    if any(before[key] != now[key] for key in ("transport", "pairs", "failing")):
        return True
    if now["measured"] == now["pairs"] != before["measured"]:
        return True
    numbers = ("bytesPerSecond", "latencySeconds")
    differs = any(_differ(before[key], now[key]) for key in numbers)
    return differs and _unix_s(now) - _unix_s(before) >= RENEWED_S


def _differ(before: float, now: float) -> bool:
    small, large = sorted((before, now))
    return large > MUCH * small


def _unix_s(entry: Object) -> float:
    return datetime.fromisoformat(entry["measuredAt"]).timestamp()
