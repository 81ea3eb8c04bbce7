"""The engine's metrics, with every label's child looked up once."""

from splitwise_core.policy.batching import StepKind
from splitwise_core.rpc import kv_pb2
from splitwise_core.telemetry import (
    BUSY,
    COMPUTED_TOKENS,
    KV_BLOCKS,
    QUEUE_REQUESTS,
    QUEUE_TOKENS,
    RUNNING,
    STEP_TOKENS,
    STEPS,
    WORKER_SEQUENCES,
    Telemetry,
)
from splitwise_worker.scheduler import Scheduler
from splitwise_worker.sequence import Phase

_KINDS = (StepKind.PROMPT, StepKind.TOKEN)


class EngineMetrics:
    """What one engine counts and shows."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._queue_requests = telemetry.gauge(QUEUE_REQUESTS)
        self._queue_tokens = telemetry.gauge(QUEUE_TOKENS)
        self._running = telemetry.gauge(RUNNING)
        self._busy = telemetry.counter(BUSY)
        self._seconds = {k: telemetry.histogram(STEPS, kind=k) for k in _KINDS}
        self._tokens = {k: telemetry.histogram(STEP_TOKENS, kind=k) for k in _KINDS}
        self._computed = {k: telemetry.counter(COMPUTED_TOKENS, kind=k) for k in _KINDS}
        states = ("free", "used", "reserved", "sending")
        self._blocks = {s: telemetry.gauge(KV_BLOCKS, state=s) for s in states}

    def stepped(self, kind: StepKind, tokens: int, seconds: float) -> None:
        """Counts one step that computed `tokens` tokens."""
        self._seconds[kind].observe(seconds)
        self._tokens[kind].observe(tokens)
        self._computed[kind].inc(tokens)
        self._busy.inc(seconds)

    def ended(self, outcome: kv_pb2.Outcome) -> None:
        """Counts the end of a sequence."""
        label = kv_pb2.Outcome.Name(outcome).lower()
        self._telemetry.counter(WORKER_SEQUENCES, outcome=label).inc()

    def observe(self, scheduler: Scheduler) -> None:
        """Shows the queues and blocks as they are now."""
        self._queue_requests.set(scheduler.count(Phase.WAITING))
        self._queue_tokens.set(scheduler.tokens(Phase.WAITING))
        self._running.set(scheduler.count(Phase.RUNNING))
        self._blocks["free"].set(scheduler.blocks.free_blocks)
        self._blocks["used"].set(scheduler.held_blocks(Phase.WAITING, Phase.RUNNING))
        self._blocks["reserved"].set(scheduler.held_blocks(Phase.ARRIVING, Phase.CLOSING))
        self._blocks["sending"].set(scheduler.held_blocks(Phase.SENDING))
