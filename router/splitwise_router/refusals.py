"""What clients are told whose requests begin on no worker, or go on on none."""

from typing import Final

from splitwise_core.policy.admission import Rejection
from splitwise_router.api.errors import ApiError

RETRY_AFTER_S: Final = 1


def rejected(why: Rejection, max_queue_s: float, max_queued: int, retry_after_s: int) -> ApiError:
    """There are workers, and too much for them to do."""
    most = f"the {max_queue_s:g} s that router.maxQueueSeconds allows"
    full = f"{max_queued} requests wait already, as many as router.maxQueuedRequests allows"
    said = {
        Rejection.QUEUE_FULL: full,
        Rejection.WOULD_WAIT: f"this request would wait for longer than {most}",
        Rejection.WAITED: f"this request has waited for longer than {most}",
    }
    return ApiError(
        429,
        f"All workers are busy, and {said[why]}. Try again later, or add replicas to the pools.",
        kind="rate_limit_error",
        code="no_capacity",
        retry_after_s=retry_after_s,
    )


def no_workers(why: str) -> ApiError:
    """There is no worker, or none of some phase."""
    return ApiError(
        503,
        f"{why.capitalize()}. Try again later.",
        kind="server_error",
        code="no_workers",
        retry_after_s=RETRY_AFTER_S,
    )


def revision_gone(revision: str, waited_s: float) -> ApiError:
    """A stream cannot go on, since no worker has the model that it began with."""
    return ApiError(
        503,
        f"The answer began on workers of revision {revision!r}, and for {waited_s:g} s none of "
        "them could go on. It does not change its model in the middle: send the request again.",
        kind="server_error",
        code="revision_gone",
    )
