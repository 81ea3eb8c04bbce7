"""Who may start now and who waits: one bounded queue, in the order of `policy.fairness`."""

import asyncio
from bisect import insort
from collections.abc import Collection
from dataclasses import dataclass
from itertools import count
from typing import Final

from splitwise_core.metrics.router import PLACEMENTS, QUEUED_REQUESTS
from splitwise_core.policy.fairness import FairOrder
from splitwise_core.policy.routing import Reason
from splitwise_core.telemetry import Telemetry
from splitwise_router.api.errors import ApiError
from splitwise_router.attempt import Attempt, Generation
from splitwise_router.fleet import Fleet
from splitwise_router.minting import Mint
from splitwise_router.session import Session

QUEUE_WAIT_S: Final = 30.0
"""Nobody waits longer for capacity: by then a client does better to ask another router."""

RETRY_AFTER_S: Final = 1


@dataclass(slots=True, eq=False)
class _Waiter:
    generation: Generation
    avoid: Collection[Session]
    avoid_until_s: float
    attempt: asyncio.Future[Attempt]
    why_not: Reason
    rank: float
    is_retry: bool


class Admission:
    """Places generations on the fleet; those that find no room wait until there is some."""

    def __init__(self, fleet: Fleet, max_queued: int, telemetry: Telemetry, mint: Mint) -> None:
        self._fleet = fleet
        self._mint = mint
        self._max_queued = max_queued
        self._telemetry = telemetry
        self._queued = telemetry.gauge(QUEUED_REQUESTS)
        self._queue: list[_Waiter] = []  # the next one first
        self._order = FairOrder()
        # Never repeats within a process: workers know a request by it.
        self._sequences = count(1)
        fleet.changed = self.pump

    async def start(
        self, generation: Generation, avoid: Collection[Session] = (), avoid_s: float = 0.0
    ) -> Attempt:
        """The running attempt of `generation`, on none of `avoid` for the first `avoid_s` seconds.

        Raises ApiError 429 when too many wait, or have waited for too long, and 503 when there is
        no worker to wait for. A retry waits in any case: its workers may be coming back. So does a
        request while a rollout has workers of both phases, and no two of one revision.
        """
        is_retry = bool(avoid)
        if is_retry or not self._queue:
            attempt, why = self._try(generation, avoid)
            if attempt is not None:
                return attempt
            hopeless = why is not Reason.NO_CAPACITY and self._fleet.lacks_a_phase()
            if hopeless and not is_retry:
                raise self._refusal(why)
        if len(self._queue) >= self._max_queued and not is_retry:
            asked_by = generation.asked_by
            self._make_place(self._order.rank(asked_by.tenant, asked_by.priority))
        return await self._wait(generation, avoid, avoid_s)

    def _make_place(self, rank: float) -> None:
        """Turns the last one away for one that goes before it. Raises ApiError where it does not.

        So a client that fills the queue turns away its own requests, and not those of others.
        """
        last = next((waiter for waiter in reversed(self._queue) if not waiter.is_retry), None)
        if last is None or last.rank <= rank or last.attempt.done():
            raise self._refusal(Reason.NO_CAPACITY)
        self._queue.remove(last)
        self._order.withdraw(*_share(last.generation))
        last.attempt.set_exception(self._refusal(Reason.NO_CAPACITY))

    async def _wait(
        self, generation: Generation, avoid: Collection[Session], avoid_s: float
    ) -> Attempt:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        waiter = _Waiter(
            generation,
            avoid,
            now_s + avoid_s,
            loop.create_future(),
            Reason.NO_CAPACITY,
            self._order.enter(*_share(generation)),
            is_retry=bool(avoid),
        )
        insort(self._queue, waiter, key=lambda other: other.rank)  # behind those of equal rank
        self._queued.inc()
        timer = loop.call_later(avoid_s, self.pump)
        self.pump()  # those before it may only wait for workers of their own
        try:
            async with asyncio.timeout_at(now_s + QUEUE_WAIT_S) as patience:
                return await waiter.attempt
        except BaseException as error:
            self._leave(waiter)
            if isinstance(error, TimeoutError) and patience.expired():
                raise self._gave_up(waiter) from None
            raise
        finally:
            timer.cancel()
            self._queued.dec()

    def _leave(self, waiter: _Waiter) -> None:
        """Takes a waiter out, and back what it was given in the moment that it left."""
        if waiter in self._queue:
            self._queue.remove(waiter)
            self._order.withdraw(*_share(waiter.generation))
        given = waiter.attempt
        if given.done() and not given.cancelled() and given.exception() is None:
            given.result().end()
        waiter.attempt.cancel()

    def pump(self) -> None:
        """Starts those that wait, in order, as far as there is room."""
        if not self._queue:
            return
        now_s = asyncio.get_running_loop().time()
        for waiter in list(self._queue):
            avoids = waiter.avoid_until_s > now_s
            attempt, why = self._try(waiter.generation, waiter.avoid if avoids else ())
            waiter.why_not = why
            if attempt is not None:
                self._note_served(waiter.generation)
                self._queue.remove(waiter)
                waiter.attempt.set_result(attempt)
            elif not avoids and not _waits_for_its_own(waiter):
                return  # nobody goes past the next one

    def _note_served(self, generation: Generation) -> None:
        *_, tokens = _share(generation)
        tenants = {waiter.generation.asked_by.tenant for waiter in self._queue}
        self._order.served(tokens, len(tenants))

    def _try(
        self, generation: Generation, avoid: Collection[Session]
    ) -> tuple[Attempt | None, Reason]:
        prefixes = self._fleet.prefixes
        if generation.block_names is None:
            generation.block_names = prefixes.names(generation.prompt)
        found, why = self._fleet.find(
            generation.to_prefill,
            generation.to_generate,
            avoid,
            generation.revision,
            generation.block_names,
        )
        if found is None:
            return None, why
        prefixes.note(generation.block_names, found.prompt, found.token)
        self._telemetry.counter(PLACEMENTS, reason=why.value).inc()
        return Attempt(generation, next(self._sequences), found, self._mint), why

    def _gave_up(self, waiter: _Waiter) -> ApiError:
        """What one is told that has waited for as long as anybody may."""
        if not _waits_for_its_own(waiter):
            return self._refusal(waiter.why_not)
        self._telemetry.counter(PLACEMENTS, reason=waiter.why_not.value).inc()
        revision = waiter.generation.revision
        return ApiError(
            503,
            f"The answer began on workers of revision {revision[0] if revision else ''!r}, and "
            f"for {QUEUE_WAIT_S:g} s none of them could go on. It does not change its model in "
            "the middle: send the request again.",
            kind="server_error",
            code="revision_gone",
        )

    def _refusal(self, why: Reason) -> ApiError:
        self._telemetry.counter(PLACEMENTS, reason=why.value).inc()
        if why is Reason.NO_CAPACITY:
            return ApiError(
                429,
                f"All workers are busy and {len(self._queue)} requests wait already. Try again "
                "later, or add replicas to the pools.",
                kind="rate_limit_error",
                code="no_capacity",
                retry_after_s=RETRY_AFTER_S,
            )
        return ApiError(
            503,
            f"{(self._fleet.not_ready() or why.value).capitalize()}. Try again later.",
            kind="server_error",
            code="no_workers",
            retry_after_s=RETRY_AFTER_S,
        )


def _share(generation: Generation) -> tuple[int, int, int]:
    """Whose share of the fleet a generation takes, with which priority, and how many tokens."""
    tokens = generation.to_prefill + generation.to_generate
    return generation.asked_by.tenant, generation.asked_by.priority, tokens


def _waits_for_its_own(waiter: _Waiter) -> bool:
    """Whether it only lacks workers of the revision it began on: that holds nobody else up."""
    return waiter.generation.revision is not None and waiter.why_not is not Reason.NO_CAPACITY
