"""How a sequence leaves: told to its router, counted once, its blocks freed once nobody uses them.

Every way out of the engine goes through here, so that none of them forgets a block.
"""

from splitwise_core.policy.draining import Fate
from splitwise_core.rpc import kv_pb2
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.handover import Handover
from splitwise_worker.kv.store import KvStore
from splitwise_worker.outbox import Outbox, failure, move_failure
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.sequence import LiveSequence, Phase


class Endings:
    """Ends sequences. `transfers` are those whose blocks the sidecar may still read or write."""

    def __init__(
        self,
        scheduler: Scheduler,
        store: KvStore,
        handover: Handover,
        outbox: Outbox,
        metrics: EngineMetrics,
    ) -> None:
        self._scheduler = scheduler
        self._store = store
        self._handover = handover
        self._outbox = outbox
        self._metrics = metrics
        self.transfers: dict[str, LiveSequence] = {}

    def complete(self, sequence: LiveSequence) -> None:
        """The sequence got to its own end here, or a peer goes on with it, and its router knows."""
        if sequence.phase is Phase.RUNNING:
            self._scheduler.keep(sequence)  # a next turn of the conversation begins with all of it
        has_moved = sequence.moving_tokens > 0 and sequence.phase is Phase.SENDING
        self._metrics.ended(kv_pb2.OK, Fate.MOVES if has_moved else Fate.STAYS)
        self._metrics.spans.left(sequence, kv_pb2.OK)
        self._leave(sequence, kv_pb2.CANCELLED)

    def drop(self, sequence: LiveSequence, outcome: kv_pb2.Outcome) -> None:
        """The sequence ends before its own end, and nobody waits for it."""
        if sequence.phase is not Phase.CLOSING:
            self._metrics.ended(outcome)
            self._metrics.spans.left(sequence, outcome)
            self._leave(sequence, outcome)

    def fail(self, sequence: LiveSequence, outcome: kv_pb2.Outcome, detail: str) -> None:
        """The sequence ends before its own end, and its router is told."""
        if sequence.phase is not Phase.CLOSING:
            self._outbox.put(sequence.key, failure(sequence.key, outcome, detail))
            self.drop(sequence, outcome)

    def give_back(self, sequence: LiveSequence) -> None:
        """The worker drains and cannot end it: its router goes on elsewhere from its tokens."""
        if sequence.phase is not Phase.CLOSING:
            self._metrics.drained(Fate.RETURNS)
            self.fail(sequence, kv_pb2.DRAINING, "this worker ends before the sequence does")

    def let_go(self, transfer_id: str, outcome: kv_pb2.Outcome, detail: str) -> None:
        """The sidecar no longer touches the blocks of this transfer."""
        sequence = self.transfers.pop(transfer_id, None)
        if sequence is None:
            return
        if sequence.hands_over:
            # A layer that lands late would overwrite what a peer sends to the blocks' next owner.
            self._store.settle()
        if sequence.phase is Phase.CLOSING:
            self._scheduler.release(sequence)
        elif sequence.moving_tokens:
            self._stay(sequence, outcome, detail)
        else:
            self.fail(sequence, outcome, detail)

    def _stay(self, sequence: LiveSequence, outcome: kv_pb2.Outcome, detail: str) -> None:
        """Its move came to nothing: its KV is here, so it goes on here."""
        self._metrics.spans.stays(sequence, outcome)
        sequence.stay()
        if sequence.phase is Phase.SENDING:
            self._scheduler.move(sequence, Phase.RUNNING)
        self._outbox.put(sequence.key, move_failure(sequence.key, outcome, detail))

    def let_go_of_all(self, outcome: kv_pb2.Outcome, detail: str) -> None:
        """The sidecar touches nothing any more: it is gone."""
        for transfer_id in list(self.transfers):
            self.let_go(transfer_id, outcome, detail)

    def _leave(self, sequence: LiveSequence, reason: kv_pb2.Outcome) -> None:
        """Frees the blocks, or first asks the sidecar to let go of them."""
        if sequence.transfer_id not in self.transfers:
            self._scheduler.release(sequence)
            return
        self._scheduler.move(sequence, Phase.CLOSING)
        if sequence.hands_over:
            self._handover.withdraw_transfer(sequence, reason)
        else:
            self._handover.close_lease(sequence)
