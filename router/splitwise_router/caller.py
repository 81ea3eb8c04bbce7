"""Who asks, and how urgently: from the headers of a request to what the schedulers need of it."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from splitwise_core.policy.fairness import Priority
from splitwise_router.api.errors import ApiError

PRIORITY_HEADER: Final = "x-splitwise-priority"

_PURPOSE: Final = b"splitwise tenant"


@dataclass(frozen=True, slots=True)
class Caller:
    """A client, as a number that says nothing of its key: it is logged and counted nowhere.

    0: no key came along; all such clients share one part.
    """

    tenant: int = 0
    priority: Priority = Priority.NORMAL


def caller_of(authorization: str | None, priority: str | None) -> Caller:
    """The caller, by its headers. Raises ApiError 400 for a priority that there is not."""
    return Caller(_tenant(authorization), _priority(priority))


def _tenant(authorization: str | None) -> int:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        return 0
    digest = blake2b(key.strip().encode(), digest_size=8, person=_PURPOSE).digest()
    return int.from_bytes(digest, "little") or 1


def _priority(text: str | None) -> Priority:
    if text is None:
        return Priority.NORMAL
    try:
        return Priority[text.strip().upper()]
    except KeyError:
        offered = ", ".join(priority.name.lower() for priority in Priority)
        raise ApiError(
            400,
            f"{PRIORITY_HEADER}: {text[:32]!r} is none of {offered}. Send one of them, or leave "
            "the header out.",
            param=PRIORITY_HEADER,
            code="invalid_value",
        ) from None
