"""Moves sequences that decode here to peers: the KV goes over while they go on, the rest is short.

A move that comes to nothing costs nothing: the sequence never left its blocks, and goes on in them.
"""

from collections.abc import Callable
from functools import partial

from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker.admission import Refused, will_push
from splitwise_worker.endings import Endings
from splitwise_worker.handover import Handover
from splitwise_worker.kv.store import KvStore
from splitwise_worker.outbox import Outbox, move_failure
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey
from splitwise_worker.spans import EngineSpans


class Moves:
    """Carries out what routers ask for. `unix_s(monotonic_s)` is the time of day of a deadline."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: KvStore,
        handover: Handover,
        endings: Endings,
        outbox: Outbox,
        num_layers: int,
        unix_s: Callable[[float], float],
        spans: EngineSpans,
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._handover = handover
        self._endings = endings
        self._outbox = outbox
        self._num_layers = num_layers
        self._unix_s = unix_s
        self._spans = spans

    def take(self, key: SequenceKey, message: worker_pb2.Move) -> None:
        """Begins a move, or gives one up; neither is of use to a sequence that has ended."""
        sequence = self._scheduler.find(key)
        if sequence is None or sequence.phase is Phase.CLOSING:
            return
        if not message.HasField("transfer"):
            if sequence.moving_tokens:
                self._handover.withdraw_transfer(sequence, kv_pb2.CANCELLED)
            return
        try:
            self._check(sequence, message)
            will_push(sequence, message.transfer)
        except Refused as refused:
            self._outbox.put(key, move_failure(key, refused.outcome, refused.detail))
            return
        self._begin(sequence, message.num_tokens)

    def _check(self, sequence: LiveSequence, message: worker_pb2.Move) -> None:
        if sequence.phase is not Phase.RUNNING or sequence.moving_tokens:
            raise Refused(kv_pb2.INVALID, "it does not decode here, or moves already")
        least, most = len(sequence.prompt_tokens), sequence.computed_tokens
        if not least <= message.num_tokens <= most:
            text = f"num_tokens: {message.num_tokens} is not from {least} to {most}"
            raise Refused(kv_pb2.INVALID, text)
        if message.transfer.transfer_id in self._endings.transfers:
            raise Refused(kv_pb2.INVALID, "this transfer is here already")
        if not self._handover.attached:
            raise Refused(kv_pb2.PEER_LOST, "this worker has no sidecar at the moment")

    def _begin(self, sequence: LiveSequence, num_tokens: int) -> None:
        """Pushes all layers of what will change no more; the sequence decodes on behind it."""
        sequence.moving_tokens = num_tokens
        self._spans.moving(sequence)
        self._endings.transfers[sequence.transfer_id] = sequence
        deadline_unix_ms = int(self._unix_s(sequence.deadline_s) * 1e3)
        self._handover.start_transfer(sequence, deadline_unix_ms)
        done = partial(self._handover.layers_ready, sequence.transfer_id, 0, self._num_layers)
        self._store.publish_all(self._handover.pushed(sequence), done)

    def pushed(self, transfer_id: str) -> None:
        """All layers are over: the sequence stops, and the peer learns of the tokens behind."""
        sequence = self._endings.transfers.get(transfer_id)
        if sequence is None or sequence.phase is not Phase.RUNNING:
            return
        self._scheduler.keep(sequence)
        self._scheduler.move(sequence, Phase.SENDING)
        self._handover.finish_transfer(sequence, sequence.tokens_behind)
