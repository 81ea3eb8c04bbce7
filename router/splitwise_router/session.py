"""One stream to one worker: requests go up, tokens and load come down, and legs hang on to it."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio

from splitwise_core.rpc.channel import OPTIONS
from splitwise_core.rpc.kv_pb2 import PEER_LOST, Link, MeasureLink
from splitwise_core.rpc.worker_pb2 import (
    FINISH_FAILED,
    FINISH_NONE,
    Cancel,
    FromWorker,
    Load,
    Move,
    ToWorker,
    Update,
    WorkerInfo,
)
from splitwise_core.rpc.worker_pb2_grpc import WorkerStub
from splitwise_router.busy import BusyShare
from splitwise_router.discovery import Endpoint
from splitwise_router.legs import Claims, Leg

Revision = tuple[str, bytes]
"""KV moves, and a stream goes on, only between workers in which this is the same."""

SILENCE_S: Final = 10.0
"""A worker reports at least every second; one that is silent for so long counts as lost."""

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 1.0
SPEED_SHARE: Final = 0.2
"""What one prompt counts in the mean speed of its worker."""

MEETING_S: Final = 5.0
"""A worker that is said to be ready is waited for as long, though it does not answer yet."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a worker must have in common with this router; `tokenizer` is a fingerprint."""

    model: str
    tokenizer: bytes


class Session:
    """The stream to one worker, opened again until `run` is cancelled.

    `changed()` is called when the worker may have room that it had not before, or is lost,
    `noted` when anything of what placement goes by is other than before, and `heard` with what it
    tells of its links.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        served: Served,
        changed: Callable[[], None],
        noted: Callable[["Session"], None],
        heard: Callable[["Session", Sequence[Link]], None],
        log: logging.Logger,
    ) -> None:
        self.endpoint = endpoint
        self.info: WorkerInfo | None = None
        self.load = Load()
        self.busy = BusyShare()
        self.claims = Claims()
        self.prompt_tokens_per_s = 0.0  # 0: not known yet
        self.leaving = False  # listed no more: it ends what it has
        self.borrowed_s: float | None = None  # since when, by the monotonic clock
        self._was_met = False  # since it was said to be ready
        self._ready_s = time.monotonic()
        self._hurry = asyncio.Event()
        self._served = served
        self._changed = changed
        self._noted = noted
        self._heard = heard
        self._log = log
        self._legs: dict[int, Leg] = {}
        self._outbox: asyncio.Queue[ToWorker] = asyncio.Queue()

    def relist(self, endpoint: Endpoint) -> None:
        """Takes what is said of the worker now; one that has become ready is met at once."""
        if endpoint.ready and not self.endpoint.ready:
            self._was_met = self.info is not None
            self._ready_s = time.monotonic()
            self._hurry.set()
        if endpoint != self.endpoint:
            self.endpoint = endpoint
            self._noted(self)

    def leave(self, leaving: bool) -> None:
        """Takes no new work, being listed no more, or does again."""
        if leaving != self.leaving:
            self.leaving = leaving
            self._noted(self)

    @property
    def usable(self) -> bool:
        """Whether new work may be sent: listed, connected, well, and able to do it."""
        if self.info is None or self.leaving or not self.endpoint.ready or self.misfit:
            return False
        return self.load.ready and not self.load.draining

    @property
    def is_being_met(self) -> bool:
        """Whether a worker that is said to be ready has just been listed, and not answered yet."""
        waits = not self._was_met and self.endpoint.ready and not self.leaving
        return waits and time.monotonic() - self._ready_s < MEETING_S

    @property
    def misfit(self) -> str | None:
        """Why a connected worker's tokens would be wrong here; None when they would be right."""
        info = self.info
        if info is not None and info.model != self._served.model:
            return f"serves another model, {info.model!r}"
        if info is not None and info.tokenizer_fingerprint != self._served.tokenizer:
            return "has another tokenizer.json"
        return None

    @property
    def name(self) -> str:
        """The worker's id; the pod's name before it has said it."""
        return self.info.worker_id if self.info else self.endpoint.pod

    @property
    def running(self) -> int:
        """Legs of this router on the worker."""
        return len(self._legs)

    def start(self, leg: Leg, message: ToWorker) -> None:
        """Sends a leg's request; its updates go to `leg.deliver` until it ends."""
        self._legs[leg.sequence] = leg
        self.claims.add(leg, 1)
        self._noted(self)
        self._outbox.put_nowait(message)

    def prompted(self, tokens: int, seconds: float) -> None:
        """Notes how long a prompt took; what is known is a mean in which old prompts fade."""
        if tokens > 0 and seconds > 0:
            before = self.prompt_tokens_per_s or tokens / seconds
            self.prompt_tokens_per_s = before + SPEED_SHARE * (tokens / seconds - before)
            self._noted(self)

    def measure(self, token: "Session", max_age_s: float) -> None:
        """Has the worker measure its link to another one, if it was not within `max_age_s`."""
        assert token.info is not None
        asked = MeasureLink(peer=token.info.sidecar, max_age_s=max_age_s)
        self._outbox.put_nowait(ToWorker(measure_link=asked))

    def move(self, message: Move) -> None:
        """Has the worker push a sequence to a peer, or leave that again."""
        self._outbox.put_nowait(ToWorker(move=message))

    def prompt_done(self, leg: Leg) -> None:
        """Notes that the leg's prompt no longer waits on the worker."""
        if leg.sequence in self._legs:
            self.claims.prompt_tokens -= leg.prompt_tokens
            leg.prompt_tokens = 0
            self._noted(self)

    def cancel(self, leg: Leg) -> None:
        """Ends a leg at once, here and on the worker; nothing when it has ended before."""
        if self._forget(leg.sequence) is not None:
            self._outbox.put_nowait(ToWorker(cancel=Cancel(sequence=leg.sequence)))

    async def run(self) -> None:
        """Keeps the stream open until cancelled. Legs of a broken stream fail with PEER_LOST."""
        pause_s = FIRST_PAUSE_S
        async with grpc.aio.insecure_channel(self.endpoint.address, options=OPTIONS) as channel:
            stub = WorkerStub(channel)
            while True:
                why = "closed by the router"
                try:
                    why = await self._follow(stub)
                finally:
                    was_open = self.info is not None
                    self._lose(why)
                pause_s = FIRST_PAUSE_S if was_open else min(2 * pause_s, LONGEST_PAUSE_S)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), pause_s)
                    pause_s = FIRST_PAUSE_S
                self._hurry.clear()

    async def _follow(self, stub: WorkerStub) -> str:
        """Opens one stream and reads it to its end; why it ended."""
        self._outbox = asyncio.Queue()
        call = stub.Session()
        writer = asyncio.create_task(_write(call, self._outbox))
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SILENCE_S) as silence:
                while (message := await call.read()) is not grpc.aio.EOF:
                    silence.reschedule(loop.time() + SILENCE_S)
                    self._receive(message)
            return "the worker closed the stream"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except TimeoutError:
            return f"silent for {SILENCE_S:.0f} s"
        finally:
            writer.cancel()
            call.cancel()

    def _receive(self, message: FromWorker) -> None:
        if message.HasField("info"):
            self._greet(message.info)
        for update in message.updates:
            if update.finish == FINISH_NONE:
                leg = self._legs.get(update.sequence)
            else:
                leg = self._forget(update.sequence)
            if leg is not None:
                leg.deliver(update)
        if message.links and self.info is not None:
            self._heard(self, message.links)
        if message.HasField("load"):
            self._hear_load(message.load)

    def _hear_load(self, load: Load) -> None:
        if load.borrowed != self.load.borrowed:
            self.borrowed_s = time.monotonic() if load.borrowed else None
        self.load = load
        self.busy.note(load.busy_s, time.monotonic())
        self._noted(self)
        self._changed()

    def _greet(self, info: WorkerInfo) -> None:
        self.info, self._was_met = info, True
        self._noted(self)
        fields = {"worker": info.worker_id, "pool": info.pool, "role": info.role}
        if (why := self.misfit) is None:
            self._log.info("worker connected", extra={"fields": fields})
        else:
            fields |= {"why": why, "expected": self._served.model}
            self._log.error("a worker that does not fit gets no work", extra={"fields": fields})

    def _lose(self, why: str) -> None:
        """Fails every leg of the stream that has ended."""
        if self.info is not None:
            fields = {"pod": self.endpoint.pod, "why": why, "requests": len(self._legs)}
            if self.leaving and not self._legs:
                self._log.info("worker left", extra={"fields": fields})
            else:
                self._log.warning("worker lost", extra={"fields": fields})
        self.info = self.borrowed_s = None
        self.load, self.busy = Load(), BusyShare()
        legs, self._legs, self.claims = self._legs, {}, Claims()
        self._noted(self)
        for leg in legs.values():
            leg.deliver(
                Update(
                    sequence=leg.sequence,
                    finish=FINISH_FAILED,
                    outcome=PEER_LOST,
                    detail=f"worker {self.endpoint.pod}: {why}",
                )
            )
        self._changed()

    def _forget(self, sequence: int) -> Leg | None:
        leg = self._legs.pop(sequence, None)
        if leg is not None:
            self.claims.add(leg, -1)
            self._noted(self)
        return leg


def revision_of(session: Session) -> Revision:
    """The revision of a connected worker."""
    assert session.info is not None
    return session.info.revision, session.info.geometry_fingerprint


async def _write(
    call: "grpc.aio.StreamStreamCall[ToWorker, FromWorker]", outbox: asyncio.Queue[ToWorker]
) -> None:
    """Sends what is put into `outbox`, until the stream ends; its reader says why it did."""
    try:
        while True:
            await call.write(await outbox.get())
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        return
