"""Streams go on while what decodes for them moves: from a worker that drains to a peer.

The worker says which sequences it wants moved, this router finds the peer, and the two sidecars do
the rest while the worker decodes on. Its word decides who goes on: all its tokens come before it
says that the peer has the KV, and nothing of the peer's is taken before that (INV-2).
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from splitwise_core.metrics.router import MOVE_PAUSE, MOVED_BYTES, MOVES
from splitwise_core.rpc import worker_pb2
from splitwise_core.rpc.worker_pb2 import Stages, ToWorker, Transfer, Update
from splitwise_core.telemetry import Telemetry
from splitwise_router.fleet import Fleet
from splitwise_router.generation import Generation
from splitwise_router.legs import Leg, leg_of
from splitwise_router.minting import Mint
from splitwise_router.session import Session

log = logging.getLogger("splitwise.router.moves")


RESULTS: Final = ("moved", "failed", "needless")


class Moves:
    """What all moves of a router need, and where they are counted."""

    def __init__(
        self, fleet: Fleet, mint: Mint, sequences: Iterator[int], telemetry: Telemetry
    ) -> None:
        self.find_peer = fleet.find_peer
        self.mint = mint
        self.next_sequence = sequences.__next__
        self._moved = {result: telemetry.counter(MOVES, move=result) for result in RESULTS}
        self._pause = telemetry.histogram(MOVE_PAUSE)
        self._bytes = telemetry.counter(MOVED_BYTES)

    def ended(self, result: str, **fields: object) -> None:
        """Counts the end of a move, and says how it was."""
        self._moved[result].inc()
        log.info(f"a stream's move: {result}", extra={"fields": fields})

    def moved(self, pause_s: float, kv_bytes: int, **fields: object) -> None:
        """Counts a stream that goes on from a peer after `pause_s` without a token."""
        self._pause.observe(pause_s)
        self._bytes.inc(kv_bytes)
        self.ended("moved", pause_s=round(pause_s, 6), kv_bytes=kv_bytes, **fields)


@dataclass(slots=True)
class _Successor:
    """The peer, and what it says before its time."""

    session: Session
    began_s: float
    last_token_s: float  # when the worker before it sent one
    leg: Leg | None = None
    early: list[Update] = field(default_factory=list)
    stages: Stages | None = None  # of the push, once the peer has the KV


class Succession:
    """Who decodes for an attempt, and who is to go on with it, while there is somebody."""

    def __init__(
        self,
        moves: Moves,
        generation: Generation,
        decoder: Session,
        leg: Leg,
        take: Callable[[Update], None],
        known: Callable[[], list[int]],
    ) -> None:
        """`take` gets what a peer says once it decodes; `known()` are all tokens that came."""
        self.decoder = decoder
        self._leg = leg
        self._moves = moves
        self._generation = generation
        self._take = take
        self._known = known
        self._next: _Successor | None = None

    def hear(self, update: Update) -> bool:
        """Whether an update of the worker that decodes was about who goes on: it is done with."""
        if self._next is not None and update.tokens:
            self._next.last_token_s = time.monotonic()
        if update.moving == worker_pb2.MOVING_WANTED:
            self._begin()
        elif update.moving == worker_pb2.MOVING_FAILED:
            self._give_up("failed", why=update.detail)
        elif update.finish == worker_pb2.FINISH_HANDED_OVER and self._next is not None:
            self._go_over(self._next, update.stages)
        else:
            return False
        return True

    def end(self) -> None:
        """The stream needs nobody any more."""
        self._give_up("needless")
        self.decoder.cancel(self._leg)

    def _begin(self) -> None:
        """Sends the sequence on its way, if there is a peer; else the worker asks again."""
        known, generation = self._known(), self._generation
        if self._next is not None or not known:
            return
        # The KV of the last token is computed with the next one: it follows as a token.
        kv_tokens = len(generation.prompt) + len(known) - 1
        most_left = len(generation.prompt) + int(generation.sampling.max_tokens) - kv_tokens
        peer = self._moves.find_peer(self.decoder, kv_tokens, most_left)
        if peer is None:
            return
        request = generation.message(self._moves.next_sequence(), known[:-1])
        transfer = Transfer(transfer_id=secrets.token_hex(16))
        decode = worker_pb2.Decode(request=request, transfer=transfer)
        now_s = time.monotonic()
        successor = self._next = _Successor(peer, now_s, now_s)
        deliver = partial(self._from_peer, successor)
        successor.leg = leg_of(decode, deliver, kv_tokens + most_left, peer.info)
        peer.start(successor.leg, ToWorker(decode=decode))
        transfer.peer = peer.info.sidecar if peer.info else ""
        transfer.capability = self._moves.mint(
            generation.capability(transfer.transfer_id, self.decoder.name, peer.name, kv_tokens)
        )
        self._tell_decoder(transfer=transfer, num_tokens=kv_tokens)

    def _tell_decoder(self, **fields: Any) -> None:
        self.decoder.move(worker_pb2.Move(sequence=self._leg.sequence, **fields))

    def _from_peer(self, successor: _Successor, update: Update) -> None:
        if successor is self._next:
            successor.early.append(update)
            if update.finish == worker_pb2.FINISH_FAILED:
                self._tell_decoder()  # it cannot take it: the decoder need push no more
            return
        if update.tokens and successor.stages is not None:
            self._note_moved(successor, successor.stages)
            successor.stages = None
        update.ClearField("stages")  # a request's own are those of its prompt
        self._take(update)

    def _go_over(self, successor: _Successor, stages: Stages) -> None:
        assert successor.leg is not None
        self.decoder, self._leg, self._next = successor.session, successor.leg, None
        successor.stages = stages
        for update in successor.early:
            self._from_peer(successor, update)

    def _note_moved(self, successor: _Successor, stages: Stages) -> None:
        self._moves.moved(
            time.monotonic() - successor.last_token_s,
            stages.kv_bytes,
            transport=stages.transport,
            to=successor.session.name,
            **self._who,
        )
        self._generation.trace.moved(successor.began_s, "moved", successor.session.name)

    @property
    def _who(self) -> dict[str, object]:
        """Of the log's lines."""
        return {"request_id": self._generation.request_id, **self._generation.trace.fields}

    def _give_up(self, result: str, **fields: object) -> None:
        if self._next is not None:
            successor, self._next = self._next, None
            assert successor.leg is not None
            successor.session.cancel(successor.leg)
            self._moves.ended(result, **self._who, **fields)
            self._generation.trace.moved(successor.began_s, result, successor.session.name)
