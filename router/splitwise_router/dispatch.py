"""One request from its first token to its last, over as many attempts as that may take."""

import logging
from collections.abc import AsyncGenerator
from typing import Final

from splitwise_core.metrics.router import INFLIGHT_REQUESTS, RETRIES
from splitwise_core.rpc import kv_pb2
from splitwise_core.telemetry import Telemetry
from splitwise_router.admission import Admission
from splitwise_router.api.errors import ApiError
from splitwise_router.attempt import Attempt, LegFailed, Piece
from splitwise_router.generation import Generation
from splitwise_router.refusals import RETRY_AFTER_S
from splitwise_router.session import Session

BUSY: Final = frozenset({kv_pb2.NO_CAPACITY, kv_pb2.DRAINING})
"""Refusals of a worker that is well: the request waits for another, and no retry is spent."""

FINAL: Final = frozenset({kv_pb2.INVALID, kv_pb2.CANCELLED})
"""What every other worker would answer too."""

AVOID_BUSY_S: Final = 0.1
AVOID_FAILED_S: Final = 2.0
"""How long a request keeps away from the workers of its failed attempt when it finds no others: a
lost sidecar takes about a second to come back."""


class Dispatcher:
    """Runs generations on the fleet."""

    def __init__(
        self, admission: Admission, retries: int, telemetry: Telemetry, log: logging.Logger
    ) -> None:
        self._admission = admission
        self._retries = retries
        self._telemetry = telemetry
        self._inflight = 0
        telemetry.gauge(INFLIGHT_REQUESTS).set_function(lambda: self._inflight)
        self._log = log

    async def run(self, generation: Generation) -> AsyncGenerator[Piece, None]:
        """The tokens of `generation`; the last piece says how it finished.

        Every way out, cancellation too, ends what runs on the workers. A failed attempt is made
        again with the tokens so far, so that none comes twice. Raises ApiError.
        """
        generation.trace.asks()
        attempt = await self._admission.start(generation)
        failures = 0
        while True:
            self._inflight += 1
            why = ""
            try:
                while True:
                    piece = await attempt.next()
                    if piece.finish is not None:
                        self._admission.answered(generation)
                    yield piece
                    if piece.finish is not None:
                        return
            except LegFailed as error:
                failed, why = error, kv_pb2.Outcome.Name(error.outcome).lower()
            finally:
                self._inflight -= 1
                attempt.end()
                generation.trace.attempt_ended(why, len(generation.output))
            if generation.to_generate <= 0:  # the last token came, the word that it was did not
                yield Piece([], [], "length")
                return
            failures += failed.outcome not in BUSY
            attempt = await self._again(generation, attempt, failed, failures)

    async def _again(
        self, generation: Generation, before: Attempt, failed: LegFailed, failures: int
    ) -> Attempt:
        """The next attempt after `failed`. Raises ApiError when there shall be none."""
        reason = kv_pb2.Outcome.Name(failed.outcome).lower()
        fields = {"request_id": generation.request_id, "failures": failures, "why": failed}
        fields |= generation.trace.fields
        if failures > self._retries or failed.outcome in FINAL:
            self._log.error("request failed", extra={"fields": fields})
            raise _gave_up(failed, failures)
        self._log.warning("attempt failed", extra={"fields": fields})
        self._telemetry.counter(RETRIES, reason=reason).inc()
        avoid: list[Session] = [before.found.prompt]
        if before.found.token is not None:
            avoid.append(before.found.token)
        avoid_s = AVOID_BUSY_S if failed.outcome in BUSY else AVOID_FAILED_S
        generation.trace.asks()
        return await self._admission.start(generation, avoid, avoid_s)


def _gave_up(failed: LegFailed, failures: int) -> ApiError:
    if failed.outcome == kv_pb2.INVALID:
        return ApiError(
            500, f"A worker refused the request: {failed}", kind="server_error", code="worker_error"
        )
    return ApiError(
        503,
        f"The request failed on {failures} placements, the last time with {failed}. Try again.",
        kind="server_error",
        code="worker_lost",
        retry_after_s=RETRY_AFTER_S,
    )
