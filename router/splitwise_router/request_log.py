"""The router's own log of requests: a line for each that has ended, and one for each placement.

Off unless the cluster asks for it. Sizes and times stand in it, never what was said. The planner
reads the lines of requests as a trace; a line of a placement has all that it was chosen by.
"""

import logging
import time
from enum import StrEnum
from typing import Final

from splitwise_core.placement_record import Record
from splitwise_core.request_log import PLACED, REQUEST
from splitwise_router.generation import Generation

DIGITS: Final = 6
"""Of seconds: microseconds."""


class RequestLogging(StrEnum):
    """What is logged of requests."""

    OFF = "off"
    REQUESTS = "requests"
    PLACEMENTS = "placements"  # and requests


class RequestLog:
    """Writes what `what` says; nothing else."""

    def __init__(self, log: logging.Logger, what: RequestLogging) -> None:
        self._log = log
        self._is_on = what is not RequestLogging.OFF
        self.has_placements = what is RequestLogging.PLACEMENTS

    def placed(self, request_id: str, workers: list[str], record: Record) -> None:
        """A placement was found."""
        fields = {"request_id": request_id, "workers": workers, "placement": record}
        self._log.info(PLACED, extra={"fields": fields})

    def ended(
        self, generation: Generation, arrived_s: float, first_s: float | None, outcome: str
    ) -> None:
        """A request, one choice of it, is over; `first_s` is None when it had no token.

        `outcome` is "stop" or "length" of one that was answered whole, else "broken".
        """
        if not self._is_on:
            return
        now_s = time.monotonic()
        fields = {
            "request_id": generation.request_id,
            "arrived_unix_s": round(time.time() - (now_s - arrived_s), DIGITS),
            "prompt_tokens": len(generation.prompt),
            "cached_tokens": generation.cached_tokens,
            "output_tokens": len(generation.output),
            "outcome": outcome,
            "ttft_s": None if first_s is None else round(first_s - arrived_s, DIGITS),
            "e2e_s": round(now_s - arrived_s, DIGITS),
            "prompt_worker": generation.prompt_worker,
            "token_worker": generation.token_worker,
        }
        self._log.info(REQUEST, extra={"fields": fields | generation.trace.fields})
