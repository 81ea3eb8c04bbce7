"""The engine's metrics, with every label's child looked up once."""

from collections.abc import Callable
from functools import partial

from splitwise_core.metrics.worker import (
    BUSY,
    COMPUTED_TOKENS,
    KV_BLOCKS,
    LAYERWISE_MIN,
    QUEUE_REQUESTS,
    QUEUE_TOKENS,
    RUNNING,
    STEP_TOKENS,
    STEPS,
    WORKER_SEQUENCES,
)
from splitwise_core.policy.batching import StepKind
from splitwise_core.rpc import kv_pb2
from splitwise_core.telemetry import Telemetry
from splitwise_worker.load_meter import LoadMeter
from splitwise_worker.scheduler import Census, Tally
from splitwise_worker.sequence import Phase

_KINDS = (StepKind.PROMPT, StepKind.TOKEN)


_STATES = {
    "used": (Phase.WAITING, Phase.RUNNING),
    "reserved": (Phase.ARRIVING, Phase.CLOSING),
    "sending": (Phase.SENDING,),
}
"""Whose blocks a state of `splitwise_kv_blocks` counts."""

_NOTHING = Census({phase: Tally(0, 0, 0) for phase in Phase}, 0, 0)


class EngineMetrics:
    """What one engine counts and shows.

    Gauges are read from the last census when somebody scrapes: a step pays for none of them.
    """

    def __init__(self, telemetry: Telemetry, layerwise_min_tokens: Callable[[], float]) -> None:
        self.load = LoadMeter()
        self._telemetry = telemetry
        self._census = _NOTHING
        self._lent_blocks = 0
        self._busy = telemetry.counter(BUSY)
        self._seconds = {k: telemetry.histogram(STEPS, kind=k) for k in _KINDS}
        self._tokens = {k: telemetry.histogram(STEP_TOKENS, kind=k) for k in _KINDS}
        self._computed = {k: telemetry.counter(COMPUTED_TOKENS, kind=k) for k in _KINDS}
        telemetry.gauge(QUEUE_REQUESTS).set_function(lambda: self._in(Phase.WAITING).sequences)
        telemetry.gauge(QUEUE_TOKENS).set_function(lambda: self._in(Phase.WAITING).tokens)
        telemetry.gauge(RUNNING).set_function(lambda: self._in(Phase.RUNNING).sequences)
        telemetry.gauge(LAYERWISE_MIN).set_function(layerwise_min_tokens)
        free = telemetry.gauge(KV_BLOCKS, state="free")
        free.set_function(lambda: self._census.free_blocks)
        for state in _STATES:
            telemetry.gauge(KV_BLOCKS, state=state).set_function(partial(self._blocks, state))

    def stepped(self, kind: StepKind, tokens: int, seconds: float) -> None:
        """Counts one step that computed `tokens` tokens."""
        self._seconds[kind].observe(seconds)
        self._tokens[kind].observe(tokens)
        self._computed[kind].inc(tokens)
        self._busy.inc(seconds)
        self.load.stepped(kind, tokens, seconds)

    def ended(self, outcome: kv_pb2.Outcome) -> None:
        """Counts the end of a sequence."""
        label = kv_pb2.Outcome.Name(outcome).lower()
        self._telemetry.counter(WORKER_SEQUENCES, outcome=label).inc()

    def observe(self, census: Census, lent_blocks: int) -> None:
        """Shows queues and blocks as they are now; `lent_blocks` are with the sidecar's probe."""
        self._census = self.load.census = census
        self._lent_blocks = lent_blocks

    def _in(self, phase: Phase) -> Tally:
        return self._census.phases[phase]

    def _blocks(self, state: str) -> int:
        held = sum(self._in(phase).blocks for phase in _STATES[state])
        return held + self._lent_blocks if state == "reserved" else held
