"""The engine's loop: take what came in, schedule, run, emit. One thread owns everything in it."""

import logging
import time
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Final

from splitwise_core.policy.batching import StepKind
from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker import commands
from splitwise_worker.admission import Limits, Refused, decode_sequence, prefill_sequence
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.handover import Handover
from splitwise_worker.kv.store import KvStore
from splitwise_worker.outbox import Outbox, failure, load_of, token_update
from splitwise_worker.runner import Runner
from splitwise_worker.sampling import Sampled
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey

log = logging.getLogger("splitwise.worker.engine")

EXPIRY_CHECK_S: Final = 0.25
"""How late the end of a deadline may be noticed while nothing else happens."""

Finish = worker_pb2.Finish


class Engine:
    """Serves commands until `Stop`. `submit` is how other threads speak to it."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        store: KvStore,
        handover: Handover,
        outbox: Outbox,
        metrics: EngineMetrics,
        limits: Limits,
        eos_token_ids: frozenset[int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._store = store
        self._handover = handover
        self._outbox = outbox
        self._metrics = metrics
        self._limits = limits
        self._eos = eos_token_ids
        self._clock = clock
        self._inbox: SimpleQueue[commands.Command] = SimpleQueue()
        self._transfers: dict[str, LiveSequence] = {}
        self._expiry_due_s = 0.0
        self._draining = False
        self._stopped = False

    def submit(self, command: commands.Command) -> None:
        """Hands a command to the loop, in order."""
        self._inbox.put(command)

    def sequences_left(self) -> int:
        """Sequences and commands that the loop is not done with. For any thread."""
        return len(self._scheduler) + self._inbox.qsize()

    def run(self) -> None:
        """Runs until `Stop`."""
        busy = False
        while not self._stopped:
            self._take_commands(wait=not busy)
            self._expire()
            work = self._scheduler.next_work()
            busy = bool(work.sequences)
            if busy:
                self._step(work.kind, work.sequences)
            self._outbox.flush(load_of(self._scheduler, self._handover.attached, self._draining))
            self._metrics.observe(self._scheduler)

    # ---- commands ----

    def _take_commands(self, wait: bool) -> None:
        try:
            if wait:
                timeout = EXPIRY_CHECK_S if len(self._scheduler) else None
                self._apply(self._inbox.get(timeout=timeout))
            while True:
                self._apply(self._inbox.get_nowait())
        except Empty:
            pass

    def _apply(self, command: commands.Command) -> None:
        match command:
            case commands.Prefill(session, message):
                self._admit(SequenceKey(session, message.request.sequence), message)
            case commands.Decode(session, message):
                self._admit(SequenceKey(session, message.request.sequence), message)
            case commands.Cancel(key):
                if sequence := self._scheduler.find(key):
                    self._drop(sequence, kv_pb2.CANCELLED)
            case commands.SessionEnded(session):
                for sequence in self._scheduler:
                    if sequence.key.session == session:
                        self._drop(sequence, kv_pb2.CANCELLED)
            case commands.FromSidecar(message):
                self._hear_sidecar(message)
            case commands.SidecarLost():
                self._lose_sidecar()
            case commands.Drain():
                self._draining = True
            case commands.Stop():
                self._stopped = True

    def _admit(self, key: SequenceKey, message: worker_pb2.Prefill | worker_pb2.Decode) -> None:
        try:
            self._take_in(key, message)
        except Refused as refused:
            self._metrics.ended(refused.outcome)
            self._outbox.put(key, failure(key, refused.outcome, refused.detail))

    def _take_in(self, key: SequenceKey, message: worker_pb2.Prefill | worker_pb2.Decode) -> None:
        if self._draining:
            raise Refused(kv_pb2.DRAINING, "this worker takes no new work")
        now = self._clock()
        if isinstance(message, worker_pb2.Prefill):
            sequence = prefill_sequence(key, message, self._limits, now, time.time())
        else:
            sequence = decode_sequence(key, message, self._limits, now, time.time())
        if self._scheduler.find(key) or sequence.transfer_id in self._transfers:
            raise Refused(kv_pb2.INVALID, "this sequence or transfer is here already")
        if sequence.transfer_id and not self._handover.attached:
            raise Refused(kv_pb2.PEER_LOST, "this worker has no sidecar at the moment")
        tokens = sequence.num_tokens if sequence.hands_over else sequence.most_tokens
        if not self._scheduler.admit(sequence, tokens):
            raise Refused(kv_pb2.NO_CAPACITY, f"no room for {tokens} tokens of KV")
        if sequence.transfer_id:
            self._transfers[sequence.transfer_id] = sequence
        if sequence.hands_over:
            self._handover.start_transfer(sequence, message.request.deadline_unix_ms)
        elif sequence.transfer_id:
            self._handover.open_lease(sequence)

    # ---- steps ----

    def _step(self, kind: StepKind, sequences: tuple[LiveSequence, ...]) -> None:
        started = self._clock()
        tokens = sum(s.num_tokens - s.computed_tokens for s in sequences)
        if kind is StepKind.PROMPT:
            for sequence in sequences:
                sequence.prefill_started_s = started
            sampled = self._runner.run(sequences, partial(self._publish, sequences))
            accept = self._accept_first
        else:
            sampled = self._runner.run(sequences)
            accept = self._accept_next
        now = self._clock()
        for sequence, token in zip(sequences, sampled, strict=True):
            sequence.output_tokens.append(token.token)
            accept(sequence, token, now)
        self._metrics.stepped(kind, tokens, now - started)

    def _publish(self, sequences: tuple[LiveSequence, ...], layer: int) -> None:
        for sequence in sequences:
            if sequence.hands_over:
                done = partial(self._handover.layer_ready, sequence.transfer_id, layer)
                self._store.publish(layer, sequence.blocks, done)

    def _accept_first(self, sequence: LiveSequence, sampled: Sampled, now: float) -> None:
        finish = self._finish(sequence)
        stages = worker_pb2.Stages(
            queue_s=sequence.prefill_started_s - sequence.arrived_s,
            prefill_s=now - sequence.prefill_started_s,
        )
        self._outbox.put(sequence.key, token_update(sequence, sampled, finish, stages))
        if finish:
            self._end(sequence)
        elif sequence.hands_over:
            self._scheduler.move(sequence, Phase.SENDING)
            self._handover.finish_transfer(sequence, sampled.token)
        else:
            self._scheduler.move(sequence, Phase.RUNNING)

    def _accept_next(self, sequence: LiveSequence, sampled: Sampled, now: float) -> None:
        stages = None
        if sequence.decode_from_s is not None:
            stages = worker_pb2.Stages(first_decode_s=now - sequence.decode_from_s)
            sequence.decode_from_s = None
        finish = self._finish(sequence)
        self._outbox.put(sequence.key, token_update(sequence, sampled, finish, stages))
        if finish:
            self._end(sequence)

    def _finish(self, sequence: LiveSequence) -> Finish:
        params, last = sequence.params, sequence.output_tokens[-1]
        if last in params.stop_token_ids or (last in self._eos and not params.ignore_eos):
            return worker_pb2.FINISH_STOP
        if len(sequence.output_tokens) >= params.max_tokens:
            return worker_pb2.FINISH_LENGTH
        return worker_pb2.FINISH_NONE

    # ---- ends ----

    def _end(self, sequence: LiveSequence) -> None:
        """The sequence got to its own end here."""
        self._metrics.ended(kv_pb2.OK)
        self._leave(sequence, kv_pb2.CANCELLED)

    def _drop(self, sequence: LiveSequence, outcome: kv_pb2.Outcome) -> None:
        """The sequence ends before its own end, and nobody waits for it."""
        if sequence.phase is not Phase.CLOSING:
            self._metrics.ended(outcome)
            self._leave(sequence, outcome)

    def _leave(self, sequence: LiveSequence, reason: kv_pb2.Outcome) -> None:
        """Frees the blocks, or first asks the sidecar to let go of them."""
        if sequence.transfer_id not in self._transfers:
            self._scheduler.release(sequence)
            return
        self._scheduler.move(sequence, Phase.CLOSING)
        if sequence.hands_over:
            self._handover.withdraw_transfer(sequence, reason)
        else:
            self._handover.close_lease(sequence)

    def _fail(self, sequence: LiveSequence, outcome: kv_pb2.Outcome, detail: str) -> None:
        """The sequence ends before its own end, and its router is told."""
        if sequence.phase is not Phase.CLOSING:
            self._outbox.put(sequence.key, failure(sequence.key, outcome, detail))
            self._drop(sequence, outcome)

    def _expire(self) -> None:
        now = self._clock()
        if now < self._expiry_due_s:
            return
        self._expiry_due_s = now + EXPIRY_CHECK_S
        for sequence in self._scheduler:
            if sequence.deadline_s <= now:
                self._fail(sequence, kv_pb2.EXPIRED, "the request's deadline has passed")

    # ---- the sidecar ----

    def _hear_sidecar(self, message: kv_pb2.FromSidecarToWorker) -> None:
        match message.WhichOneof("kind"):
            case "attached":
                self._handover.epoch = message.attached.epoch
            case "lease_verified":
                self._start_decode(message.lease_verified)
            case "lease_ended":
                ended = message.lease_ended
                self._let_go(ended.transfer_id, ended.outcome, ended.detail)
            case "transfer_ended":
                self._end_transfer(message.transfer_ended)

    def _start_decode(self, verified: kv_pb2.LeaseVerified) -> None:
        sequence = self._transfers.pop(verified.transfer_id, None)
        if sequence is None:
            return
        if sequence.phase is Phase.CLOSING:
            self._scheduler.release(sequence)
            return
        self._store.fetch(sequence.blocks)
        sequence.output_tokens.extend(verified.output_tokens)
        sequence.decode_from_s = self._clock()
        self._scheduler.move(sequence, Phase.RUNNING)

    def _end_transfer(self, ended: kv_pb2.TransferEnded) -> None:
        sequence = self._transfers.get(ended.transfer_id)
        if sequence is None:
            return
        if ended.outcome == kv_pb2.OK and sequence.phase is Phase.SENDING:
            stages = worker_pb2.Stages(
                transfer_s=ended.visible_s, kv_bytes=ended.kv_bytes, transport=ended.transport
            )
            update = worker_pb2.Update(
                sequence=sequence.key.number, finish=worker_pb2.FINISH_HANDED_OVER, stages=stages
            )
            self._outbox.put(sequence.key, update)
            del self._transfers[ended.transfer_id]
            self._end(sequence)
        else:
            self._let_go(ended.transfer_id, ended.outcome, ended.detail)

    def _let_go(self, transfer_id: str, outcome: kv_pb2.Outcome, detail: str) -> None:
        """The sidecar no longer touches the blocks of this transfer."""
        sequence = self._transfers.pop(transfer_id, None)
        if sequence is None:
            return
        if sequence.phase is Phase.CLOSING:
            self._scheduler.release(sequence)
        else:
            self._fail(sequence, outcome, detail)

    def _lose_sidecar(self) -> None:
        self._handover.epoch = 0
        log.warning("sidecar lost", extra={"fields": {"transfers": len(self._transfers)}})
        for transfer_id in list(self._transfers):
            self._let_go(transfer_id, kv_pb2.PEER_LOST, "the worker's own sidecar is gone")
