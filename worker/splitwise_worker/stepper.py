"""One step of the engine: run the model for some sequences, then tell their routers what came."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from splitwise_core.policy.batching import StepKind
from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker.endings import Endings
from splitwise_worker.engine_metrics import EngineMetrics
from splitwise_worker.handover import Handover
from splitwise_worker.kv.store import KvStore
from splitwise_worker.load_meter import Stepped
from splitwise_worker.outbox import Outbox, token_update
from splitwise_worker.sampling import UNFINISHED, Sampled
from splitwise_worker.scheduler import Scheduler, Work
from splitwise_worker.sequence import LiveSequence, Phase
from splitwise_worker.switchover import Switchover

Finish = worker_pb2.Finish

NO_TOKEN = "the model gave no token that could be drawn; the worker's log says why"


class ModelRunner(Protocol):
    """What computes: `runner.Runner`."""

    def run(
        self,
        sequences: Sequence[LiveSequence],
        on_layer: Callable[[int], None] | None = None,
        tokens: Sequence[int] | None = None,
    ) -> list[Sampled | None]:
        """Computes `tokens` of each sequence, or all that are pending, and what comes next.

        UNFINISHED where that is more of the prompt, None where it could not be computed.
        """


class Stepper:
    """Runs what the scheduler picked."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: ModelRunner,
        store: KvStore,
        handover: Handover,
        outbox: Outbox,
        metrics: EngineMetrics,
        endings: Endings,
        switchover: Switchover,
        eos_token_ids: frozenset[int],
        clock: Callable[[], float],
    ) -> None:
        self._scheduler = scheduler
        self._runner = runner
        self._store = store
        self._handover = handover
        self._outbox = outbox
        self._metrics = metrics
        self._endings = endings
        self._switchover = switchover
        self._eos = eos_token_ids
        self._clock = clock

    def step(self, work: Work) -> None:
        """What `work` says; one token more for each sequence whose prompt is done, or its end."""
        started = self._clock()
        for sequence in work.sequences[: work.prompts]:
            sequence.prefill_started_s = sequence.prefill_started_s or started
        sampled = self._runner.run(work.sequences, self._publisher(work), work.tokens)
        now = self._clock()
        for index, (sequence, token) in enumerate(zip(work.sequences, sampled, strict=True)):
            if token is UNFINISHED:
                continue
            if token is None:
                self._endings.fail(sequence, kv_pb2.FAILED, NO_TOKEN)
                continue
            sequence.output_tokens.append(token.token)
            accept = self._accept_first if index < work.prompts else self._accept_next
            accept(sequence, token, now)
        self._scheduler.computed(work, now - started)
        self._count(work, now - started, now)

    def _count(self, work: Work, seconds: float, now: float) -> None:
        duty, token_s = self._scheduler.duty, seconds if work.decoding else 0.0
        if work.kind is StepKind.MIXED:
            token_s = duty.worked_mixed(work.prompt_tokens, work.decoding, seconds, now)
        else:
            duty.worked(work.kind, len(work.sequences), seconds, now)
        decoded = sum(work.tokens) - work.prompt_tokens
        step = Stepped(work.kind, work.prompt_tokens, decoded, seconds - token_s, token_s)
        pairs = zip(work.sequences, work.tokens, strict=True)
        contexts = (max(one.computed_tokens, tokens) for one, tokens in pairs)
        self._metrics.stepped(step, work.tokens, contexts)

    def _publisher(self, work: Work) -> Callable[[int], None] | None:
        """What is to be called with each layer that has been written; None when nobody waits."""
        leaving = [
            sequence
            for sequence, tokens in zip(work.sequences[: work.prompts], work.tokens, strict=False)
            if sequence.hands_over and tokens == sequence.tokens_to_compute  # with its last chunk
        ]
        for sequence in leaving:
            sequence.is_layerwise = self._switchover.is_layerwise(
                sequence.peer, sequence.num_tokens
            )
        by_layer = [sequence for sequence in leaving if sequence.is_layerwise]
        return partial(self._publish, by_layer) if by_layer else None

    def _publish(self, sequences: Sequence[LiveSequence], layer: int) -> None:
        started = self._clock()
        for sequence in sequences:
            done = partial(self._handover.layers_ready, sequence.transfer_id, layer, 1)
            self._store.publish(layer, sequence.blocks, done)
        self._switchover.told((self._clock() - started) / len(sequences))

    def _publish_all(self, sequence: LiveSequence) -> None:
        layers = self._switchover.num_layers
        done = partial(self._handover.layers_ready, sequence.transfer_id, 0, layers)
        self._store.publish_all(sequence.blocks, done)

    def _accept_first(self, sequence: LiveSequence, sampled: Sampled, now: float) -> None:
        self._scheduler.keep(sequence)
        finish = self._finish(sequence)
        stages = worker_pb2.Stages(
            queue_s=sequence.prefill_started_s - sequence.arrived_s,
            prefill_s=now - sequence.prefill_started_s,
            cached_tokens=sequence.cached_tokens,
            arrived_unix_s=self._metrics.spans.prefilled(sequence, now),
        )
        self._metrics.load.first_token(now - sequence.arrived_s)
        self._outbox.put(sequence.key, token_update(sequence, sampled, finish, stages))
        if finish:
            self._endings.complete(sequence)
        elif sequence.hands_over:
            self._scheduler.move(sequence, Phase.SENDING)
            if not sequence.is_layerwise:
                self._publish_all(sequence)
            self._handover.finish_transfer(sequence, [sampled.token])
        else:
            self._scheduler.move(sequence, Phase.RUNNING)

    def _accept_next(self, sequence: LiveSequence, sampled: Sampled, now: float) -> None:
        stages = None
        if (kv := sequence.arrived_kv) is not None:
            stages = worker_pb2.Stages(
                transfer_s=kv.visible_s,
                first_decode_s=now - kv.at_s,
                kv_bytes=kv.kv_bytes,
                transport=kv.transport,
            )
            self._metrics.spans.first_decoded(sequence, now)
            sequence.arrived_kv = None
        finish = self._finish(sequence)
        self._outbox.put(sequence.key, token_update(sequence, sampled, finish, stages))
        if finish:
            self._endings.complete(sequence)

    def _finish(self, sequence: LiveSequence) -> Finish:
        params, last = sequence.params, sequence.output_tokens[-1]
        if last in params.stop_token_ids or (last in self._eos and not params.ignore_eos):
            return worker_pb2.FINISH_STOP
        if len(sequence.output_tokens) >= params.max_tokens:
            return worker_pb2.FINISH_LENGTH
        return worker_pb2.FINISH_NONE
