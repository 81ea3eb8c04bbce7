"""The engine's loop: take what came in, schedule, run, emit. One thread owns everything in it."""

import logging
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker import commands
from splitwise_worker.admission import Limits, Refused, decode_sequence, prefill_sequence
from splitwise_worker.draining import Draining
from splitwise_worker.endings import Endings
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.handover import Handover
from splitwise_worker.kv.store import KvStore
from splitwise_worker.moves import Moves
from splitwise_worker.outbox import Outbox, failure, load_of
from splitwise_worker.probe import Probe
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.sequence import ArrivedKv, LiveSequence, Phase, SequenceKey
from splitwise_worker.stepper import ModelRunner, Stepper
from splitwise_worker.switchover import Switchover

log = logging.getLogger("splitwise.worker.engine")

EXPIRY_CHECK_S: Final = 0.25
"""How late the end of a deadline may be noticed while nothing else happens."""


class Engine:
    """Serves commands until `Stop`. `submit` is how other threads speak to it."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: ModelRunner,
        store: KvStore,
        handover: Handover,
        probe: Probe,
        outbox: Outbox,
        metrics: EngineMetrics,
        switchover: Switchover,
        limits: Limits,
        eos_token_ids: frozenset[int],
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._handover = handover
        self._probe = probe
        self._outbox = outbox
        self._metrics = metrics
        self._switchover = switchover
        self._limits = limits
        self._clock = clock
        self._unix_clock = unix_clock
        self._endings = Endings(scheduler, store, handover, outbox, metrics)
        self._stepper = Stepper(
            scheduler,
            runner,
            store,
            handover,
            outbox,
            metrics,
            self._endings,
            switchover,
            eos_token_ids,
            clock,
        )
        self._moves = Moves(
            scheduler,
            store,
            handover,
            self._endings,
            outbox,
            switchover.num_layers,
            lambda at_s: unix_clock() + at_s - clock(),
            metrics.spans,
        )
        self._draining = Draining(scheduler, self._endings, outbox, metrics)
        self._inbox: SimpleQueue[tuple[float, commands.Command]] = SimpleQueue()
        self._expiry_due_s = 0.0
        self._stopped = False

    def submit(self, command: commands.Command) -> None:
        """Hands a command to the loop, in order. Its request has waited since now."""
        self._inbox.put((self._clock(), command))

    def commands_waiting(self) -> int:
        """Commands that the loop has not taken up. For any thread."""
        return self._inbox.qsize()

    def sequences_left(self) -> int:
        """Sequences and commands that the loop is not done with. For any thread."""
        return len(self._scheduler) + self._inbox.qsize()

    def not_ready(self) -> str | None:
        """Why a router should send nothing now; None when it may. For any thread."""
        if self._draining.begun:
            return "draining"
        if not self._handover.attached:
            return "no sidecar is attached"
        return None if self._probe.passed else self._probe.said

    def run(self) -> None:
        """Runs until `Stop`."""
        self._emit()
        busy = False
        while not self._stopped:
            busy = self.turn(wait=not busy)

    def turn(self, wait: bool) -> bool:
        """One round of the loop; whether it computed something. `wait` is for a command to come."""
        began = self._clock()
        self._take_commands(wait)
        if wait:
            began = self._clock()  # what it waited is not work
        self._expire()
        now = self._clock()
        self._draining.look(now)
        self._scheduler.look(now)
        self._probe.begin_if_due()
        work = self._scheduler.next_work()
        if work.sequences:
            self._stepper.step(work)
        self._emit()
        if work.sequences:
            self._metrics.worked(self._clock() - began)
        return bool(work.sequences)

    def _emit(self) -> None:
        census = self._scheduler.census()
        ready = self._handover.attached and self._probe.passed
        speed = self._scheduler.prompt_speed.tokens_per_s
        now, duty = self._clock(), self._scheduler.duty
        busy_s = self._metrics.busy_s
        self._outbox.flush(load_of(census, ready, self._draining.begun, speed, busy_s, duty, now))
        evicted = self._scheduler.blocks.evicted
        self._metrics.observe(census, len(self._probe.blocks), evicted, speed)
        self._metrics.duty(duty, now)

    # ---- commands ----

    def _take_commands(self, wait: bool) -> None:
        try:
            if wait:
                is_still = not len(self._scheduler) and self._scheduler.duty.is_settled(
                    self._clock()
                )
                timeout = None if is_still else EXPIRY_CHECK_S
                self._apply(*self._inbox.get(timeout=timeout))
            while True:
                self._apply(*self._inbox.get_nowait())
        except Empty:
            pass

    def _apply(self, came_s: float, command: commands.Command) -> None:
        match command:
            case commands.Prefill(session, message):
                self._admit(SequenceKey(session, message.request.sequence), message, came_s)
            case commands.Decode(session, message):
                self._admit(SequenceKey(session, message.request.sequence), message, came_s)
            case commands.Cancel(key):
                if sequence := self._scheduler.find(key):
                    self._endings.drop(sequence, kv_pb2.CANCELLED)
            case commands.Move(key, message):
                self._moves.take(key, message)
            case commands.SessionEnded(session):
                for sequence in self._scheduler:
                    if sequence.key.session == session:
                        self._endings.drop(sequence, kv_pb2.CANCELLED)
            case commands.FromSidecar(message):
                self._hear_sidecar(message)
            case commands.SidecarLost():
                self._lose_sidecar()
            case commands.MeasureLink(message):
                self._handover.measure_link(message)
            case commands.Drain(within_s):
                self._draining.begin(self._clock() + within_s)
            case commands.Stop():
                self._stopped = True

    def _admit(
        self, key: SequenceKey, message: worker_pb2.Prefill | worker_pb2.Decode, came_s: float
    ) -> None:
        try:
            self._take_in(key, message, came_s)
        except Refused as refused:
            self._metrics.ended(refused.outcome)
            self._outbox.put(key, failure(key, refused.outcome, refused.detail))

    def _take_in(
        self, key: SequenceKey, message: worker_pb2.Prefill | worker_pb2.Decode, came_s: float
    ) -> None:
        if self._draining.begun:
            raise Refused(kv_pb2.DRAINING, "this worker takes no new work")
        now, now_unix = self._clock(), self._unix_clock()
        if isinstance(message, worker_pb2.Prefill):
            sequence = prefill_sequence(key, message, self._limits, now, now_unix)
        else:
            sequence = decode_sequence(key, message, self._limits, now, now_unix)
        sequence.arrived_s = came_s
        transfers = self._endings.transfers
        if self._scheduler.find(key) or sequence.transfer_id in transfers:
            raise Refused(kv_pb2.INVALID, "this sequence or transfer is here already")
        if sequence.transfer_id and not self._handover.attached:
            raise Refused(kv_pb2.PEER_LOST, "this worker has no sidecar at the moment")
        tokens = sequence.num_tokens if sequence.hands_over else sequence.most_tokens
        if not self._scheduler.admit(sequence, tokens):
            raise Refused(kv_pb2.NO_CAPACITY, f"no room for {tokens} tokens of KV")
        self._metrics.admitted(sequence)
        self._metrics.spans.admitted(sequence, message.request.traceparent)
        if sequence.transfer_id:
            transfers[sequence.transfer_id] = sequence
        if sequence.hands_over:
            self._handover.start_transfer(sequence, message.request.deadline_unix_ms)
        elif sequence.transfer_id:
            self._handover.open_lease(sequence)

    def _expire(self) -> None:
        now = self._clock()
        if now < self._expiry_due_s:
            return
        self._expiry_due_s = now + EXPIRY_CHECK_S
        for sequence in self._scheduler:
            if sequence.deadline_s <= now:
                self._endings.fail(sequence, kv_pb2.EXPIRED, "the request's deadline has passed")

    # ---- the sidecar ----

    def _hear_sidecar(self, message: kv_pb2.FromSidecarToWorker) -> None:
        match message.WhichOneof("kind"):
            case "attached":
                self._handover.epoch = message.attached.epoch
                self._probe.attached()
            case "lease_verified":
                self._start_decode(message.lease_verified)
            case "lease_ended":
                ended = message.lease_ended
                self._endings.let_go(ended.transfer_id, ended.outcome, ended.detail)
            case "transfer_pushed":
                self._moves.pushed(message.transfer_pushed.transfer_id)
            case "transfer_ended":
                self._end_transfer(message.transfer_ended)
            case "probe_ended":
                self._probe.hear(message.probe_ended)

    def _start_decode(self, verified: kv_pb2.LeaseVerified) -> None:
        """The lease is over and the KV stands in the blocks: they are the sequence's alone."""
        sequence = self._endings.transfers.pop(verified.transfer_id, None)
        if sequence is None:
            return
        if sequence.phase is Phase.CLOSING:
            self._scheduler.release(sequence)
            return
        tokens = list(verified.output_tokens)
        if not self._continues(sequence, tokens):
            detail = f"the prompt worker's tokens are no beginning to go on from: {tokens[:8]}"
            self._endings.fail(sequence, kv_pb2.INVALID, detail)
            return
        self._store.fetch(self._handover.arrived(sequence))
        self._scheduler.keep(sequence)
        sequence.output_tokens.extend(tokens)
        sequence.arrived_kv = ArrivedKv(
            self._clock(), verified.visible_s, verified.kv_bytes, verified.transport
        )
        self._metrics.spans.verified(sequence)
        self._scheduler.move(sequence, Phase.RUNNING)

    def _continues(self, sequence: LiveSequence, tokens: list[int]) -> bool:
        """Whether a decode can go on after these: a peer's word is not trusted with our blocks."""
        left = sequence.params.max_tokens - len(sequence.output_tokens)
        return 0 < len(tokens) < left and max(tokens) < self._limits.vocab_size

    def _end_transfer(self, ended: kv_pb2.TransferEnded) -> None:
        sequence = self._endings.transfers.get(ended.transfer_id)
        if sequence is None:
            return
        if ended.outcome == kv_pb2.OK and sequence.phase is Phase.SENDING:
            self._switchover.pushed(sequence.peer, ended.kv_bytes, ended.push_s)
            stages = worker_pb2.Stages(kv_bytes=ended.kv_bytes, transport=ended.transport)
            update = worker_pb2.Update(
                sequence=sequence.key.number, finish=worker_pb2.FINISH_HANDED_OVER, stages=stages
            )
            self._outbox.put(sequence.key, update)
            del self._endings.transfers[ended.transfer_id]
            self._endings.complete(sequence)
        else:
            self._endings.let_go(ended.transfer_id, ended.outcome, ended.detail)

    def _lose_sidecar(self) -> None:
        self._handover.epoch = 0
        self._probe.lost()
        fields = {"transfers": len(self._endings.transfers)}
        log.warning("sidecar lost", extra={"fields": fields})
        self._endings.let_go_of_all(kv_pb2.PEER_LOST, "the worker's own sidecar is gone")
