"""Who may start now, who waits and who is turned away.

One queue, in the order of `policy.fairness`, that `policy.admission` bounds in seconds.
"""

import asyncio
import time
from bisect import insort
from collections.abc import Collection
from functools import partial
from itertools import count
from typing import Final

from splitwise_core.metrics.router import (
    EXPECTED_WAIT,
    PLACEMENTS,
    QUEUED_REQUESTS,
    REJECTED_REQUESTS,
)
from splitwise_core.policy.admission import (
    Pace,
    Rejection,
    Speed,
    Waiting,
    retry_after_s,
    too_late,
)
from splitwise_core.policy.fairness import FairOrder
from splitwise_core.policy.routing import Reason
from splitwise_core.telemetry import Telemetry
from splitwise_router import refusals
from splitwise_router.api.errors import ApiError
from splitwise_router.attempt import Attempt
from splitwise_router.fleet import Fleet
from splitwise_router.generation import Generation
from splitwise_router.intake import Intake
from splitwise_router.minting import Mint
from splitwise_router.moves import Moves
from splitwise_router.session import Session
from splitwise_router.waiter import Waiter, share_of

QUEUE_WAIT_S: Final = 30.0
"""A retry, or who waits for a worker to become ready, waits no longer: a client does better to ask
another router then."""


class Admission:
    """Places generations on the fleet; those that find no room wait until there is some."""

    def __init__(
        self,
        fleet: Fleet,
        max_queued: int,
        max_queue_s: float,
        telemetry: Telemetry,
        mint: Mint,
        wake_s: float = 0.0,
    ) -> None:
        """`wake_s`: how long a request waits for the first workers; 0 where none would come."""
        self._fleet = fleet
        self._mint = mint
        self._max_queued = max_queued
        self._max_queue_s = max_queue_s
        self._wake_s = wake_s
        self._telemetry = telemetry
        for why in Rejection:  # each begins at 0: a rate misses the first step of others
            telemetry.counter(REJECTED_REQUESTS, reason=why.value)
        self._placements = dict.fromkeys(Reason, 0)
        for reason in Reason:
            counted = partial(self._placements.__getitem__, reason)
            telemetry.show_total(PLACEMENTS, counted, reason=reason.value)
        self._queued = telemetry.gauge(QUEUED_REQUESTS)
        telemetry.gauge(EXPECTED_WAIT).set_function(self._wait_s)
        self._queue: list[Waiter] = []  # the next one first
        self._emptied = Speed()
        self._intake = Intake()
        self._full_since_s: float | None = None  # or since the last one found room
        self._order = FairOrder()
        # Never repeats within a process: workers know a request by it.
        self._sequences = count(1)
        self._moves = Moves(fleet, mint, self._sequences, telemetry)
        fleet.changed = self.pump

    async def start(
        self, generation: Generation, avoid: Collection[Session] = (), avoid_s: float = 0.0
    ) -> Attempt:
        """The running attempt of `generation`, on none of `avoid` for the first `avoid_s` seconds.

        Raises ApiError 429 when too many wait, or it would wait or has waited for too long, and
        503 when there is no worker to wait for. A retry waits in any case: its workers may be
        coming back. So does a request while a rollout has workers of both phases, and no two of one
        revision.
        """
        is_retry = bool(avoid)
        if is_retry or not self._queue:
            attempt, why = self._try(generation, avoid)
            if attempt is not None:
                return attempt
            waits = why is Reason.NO_CAPACITY or self._wake_s > 0
            hopeless = not waits and self._fleet.lacks_a_phase()
            if hopeless and not is_retry:
                raise self._refusal(generation, why)
        if len(self._queue) >= self._max_queued and not is_retry:
            self._make_place(generation)
        return await self._wait(generation, avoid, avoid_s)

    def _make_place(self, generation: Generation) -> None:
        """Turns the last one away for one that goes before it. Raises ApiError where it does not.

        So a client that fills the queue turns away its own requests, and not those of others.
        """
        asked_by = generation.asked_by
        rank = self._order.rank(asked_by.tenant, asked_by.priority)
        last = next((waiter for waiter in reversed(self._queue) if not waiter.is_retry), None)
        if last is None or last.rank <= rank or last.attempt.done():
            raise self._rejection(generation, Rejection.QUEUE_FULL)
        self._turn_away(last, Rejection.QUEUE_FULL)

    def _turn_away(self, waiter: Waiter, why: Rejection) -> None:
        self._queue.remove(waiter)
        self._order.withdraw(*share_of(waiter.generation))
        waiter.attempt.set_exception(self._rejection(waiter.generation, why))

    def _turn_away_late(self) -> None:
        """Those that would wait for too long, now that one more goes before some of them."""
        if self._full_since_s is not None:
            queue = list(self._queue)
            late = too_late([waiter.share for waiter in queue], self._pace(), self._max_queue_s)
            for index in reversed(late):
                self._turn_away(queue[index], Rejection.WOULD_WAIT)

    def _end_wait(self, waiter: Waiter) -> None:
        """It has waited for as long as one may for capacity."""
        if self._full_since_s is not None and waiter in self._queue and not waiter.is_retry:
            self._turn_away(waiter, Rejection.WAITED)

    def _pace(self) -> Pace:
        return Pace(*self._fleet.prompt_pace(), self._emptied.tokens_per_s)

    def _wait_s(self) -> float:
        """How long a request would wait behind all others."""
        return self._pace().wait_s(*self._queued_tokens())

    def _queued_tokens(self) -> tuple[int, int]:
        """Of the prompts that wait, and of prompts and answers."""
        shares = [waiter.share for waiter in self._queue]
        return sum(share.prompt_tokens for share in shares), sum(share.tokens for share in shares)

    async def _wait(
        self, generation: Generation, avoid: Collection[Session], avoid_s: float
    ) -> Attempt:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        waiter = Waiter(
            generation,
            avoid,
            now_s + avoid_s,
            loop.create_future(),
            Reason.NO_CAPACITY,
            self._order.enter(*share_of(generation)),
            Waiting(generation.to_prefill, share_of(generation)[2], stays=bool(avoid)),
        )
        insort(self._queue, waiter, key=lambda other: other.rank)  # behind those of equal rank
        self._queued.inc()
        timers = [
            loop.call_later(avoid_s, self.pump),
            loop.call_later(self._max_queue_s, self._end_wait, waiter),
        ]
        self.pump()  # those before it may only wait for workers of their own
        self._turn_away_late()
        try:
            async with asyncio.timeout_at(now_s + self._patience_s()) as patience:
                return await waiter.attempt
        except BaseException as error:
            self._leave(waiter)
            if isinstance(error, TimeoutError) and patience.expired():
                raise self._gave_up(waiter) from None
            raise
        finally:
            for timer in timers:
                timer.cancel()
            self._queued.dec()

    def _patience_s(self) -> float:
        """How long one that comes now may wait for capacity, or for the first workers."""
        if self._wake_s > 0 and self._fleet.lacks_a_phase():
            return self._wake_s
        return max(QUEUE_WAIT_S, self._max_queue_s)

    def _leave(self, waiter: Waiter) -> None:
        """Takes a waiter out, and back what it was given in the moment that it left."""
        if waiter in self._queue:
            self._queue.remove(waiter)
            self._order.withdraw(*share_of(waiter.generation))
        given = waiter.attempt
        if given.done() and not given.cancelled() and given.exception() is None:
            given.result().end()
        waiter.attempt.cancel()

    def waiting(self) -> dict[str, int]:
        """What waits for capacity: requests, their prompt tokens, and the KV they may need.

        Beside it the prompt tokens that were placed and turned away in the last seconds.
        """
        prompt_tokens, tokens = self._queued_tokens()
        waiting = {"requests": len(self._queue), "promptTokens": prompt_tokens, "kvTokens": tokens}
        return waiting | self._intake.told(time.monotonic())

    def pump(self) -> None:
        """Starts those that wait, in order, as far as there is room."""
        if not self._queue:
            self._full_since_s = None
            return
        now_s = asyncio.get_running_loop().time()
        tokens, is_full = self._start_waiting(now_s)
        if tokens and self._full_since_s is not None:
            self._emptied.note(tokens, now_s - self._full_since_s)
        if not is_full:
            self._full_since_s = None
        elif tokens or self._full_since_s is None:
            self._full_since_s = now_s

    def _start_waiting(self, now_s: float) -> tuple[int, bool]:
        """How many tokens found room, and whether some found none on workers that there are."""
        tokens = 0
        for waiter in [one for one in self._queue if not one.attempt.done()]:  # done: hung up
            avoids = waiter.avoid_until_s > now_s
            attempt, why = self._try(waiter.generation, waiter.avoid if avoids else ())
            waiter.why_not = why
            if attempt is not None:
                self._note_served(waiter.generation)
                self._queue.remove(waiter)
                waiter.attempt.set_result(attempt)
                tokens += waiter.share.tokens
            elif not avoids and not waiter.waits_for_its_own:
                return tokens, why is Reason.NO_CAPACITY  # nobody goes past the next one
        return tokens, False

    def answered(self, generation: Generation) -> None:
        """A generation has come to its own end."""
        self._fleet.answered(len(generation.output), generation.sampling.max_tokens)

    def _note_served(self, generation: Generation) -> None:
        *_, tokens = share_of(generation)
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
            generation.request_id,
        )
        if found is None:
            return None, why
        prefixes.note(generation.block_names, found.prompt, found.token)
        self._intake.placed.note(generation.to_prefill, time.monotonic())
        self._placements[why] += 1
        return Attempt(generation, next(self._sequences), found, self._mint, self._moves), why

    def _gave_up(self, waiter: Waiter) -> ApiError:
        """What one is told that has waited for as long as anybody may."""
        if not waiter.waits_for_its_own:
            return self._refusal(waiter.generation, waiter.why_not)
        self._placements[waiter.why_not] += 1
        revision = waiter.generation.revision
        return refusals.revision_gone(revision[0] if revision else "", QUEUE_WAIT_S)

    def _refusal(self, generation: Generation, why: Reason) -> ApiError:
        if why is Reason.NO_CAPACITY:
            return self._rejection(generation, Rejection.WAITED)
        self._placements[why] += 1
        return refusals.no_workers(self._fleet.not_ready() or why.value)

    def _rejection(self, generation: Generation, why: Rejection) -> ApiError:
        self._intake.refused.note(generation.to_prefill, time.monotonic())
        self._placements[Reason.NO_CAPACITY] += 1
        self._telemetry.counter(REJECTED_REQUESTS, reason=why.value).inc()
        after_s = retry_after_s(self._wait_s(), self._max_queue_s)
        return refusals.rejected(why, self._max_queue_s, self._max_queued, after_s)
