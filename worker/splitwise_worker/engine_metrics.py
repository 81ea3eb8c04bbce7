"""The engine's metrics, with every label's child looked up once."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from splitwise_core.metrics.worker import (
    BACKLOG,
    BORROWED,
    BUSY,
    COMPUTED_TOKENS,
    DECODE_LIMIT,
    DRAINED,
    DRAINING,
    KV_BLOCKS,
    KV_BYTES,
    LAYERWISE_MIN,
    LOANS,
    PREFIX_EVICTED,
    PREFIX_HIT,
    PREFIX_QUERIED,
    QUEUE_REQUESTS,
    QUEUE_TOKENS,
    RUNNING,
    SHOULD_CHANGE,
    STEP_TOKENS,
    STEPS,
    WORKER_SEQUENCES,
)
from splitwise_core.policy.admission import backlog_s
from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.draining import Fate
from splitwise_core.policy.duty import Duty
from splitwise_core.rpc import kv_pb2
from splitwise_core.telemetry import Telemetry
from splitwise_worker.estimates import Estimates
from splitwise_worker.load_meter import LoadMeter, Stepped
from splitwise_worker.scheduler import Census, Tally
from splitwise_worker.sequence import LiveSequence, Phase
from splitwise_worker.spans import EngineSpans

log = logging.getLogger("splitwise.worker.duty")

_PHASES = (StepKind.PROMPT, StepKind.TOKEN)
_KINDS = (*_PHASES, StepKind.MIXED)
_SAVES = ("compute", "transfer")


class EngineMetrics:
    """What one engine counts and shows.

    Gauges are read from the last census when somebody scrapes, and so are counters of what is
    counted anyway: a step pays for none of them.
    """

    def __init__(
        self,
        telemetry: Telemetry,
        layerwise_min_tokens: Callable[[], float],
        estimates: Estimates,
        block_bytes: int,
        spans: EngineSpans | None = None,
    ) -> None:
        """`block_bytes` are those of a KV block of all layers."""
        self.load = LoadMeter()
        self.spans = spans or EngineSpans()
        self._estimates = estimates
        self._block_bytes = block_bytes
        self._prompt_tokens_per_s = 0.0
        self._telemetry = telemetry
        self._lent_blocks = 0
        self.busy_s = 0.0
        """What all rounds of the loop with a step in them took, since the worker began."""
        telemetry.show_total(BUSY, lambda: self.busy_s)
        self._seconds = {k: telemetry.histogram(STEPS, kind=k) for k in _KINDS}
        self._tokens = {k: telemetry.histogram(STEP_TOKENS, kind=k) for k in _KINDS}
        for phase in _PHASES:
            telemetry.show_total(COMPUTED_TOKENS, partial(self.load.tokens, phase), kind=phase)
        telemetry.gauge(QUEUE_REQUESTS).set_function(lambda: self._in(Phase.WAITING).sequences)
        telemetry.gauge(QUEUE_TOKENS).set_function(lambda: self._in(Phase.WAITING).tokens)
        telemetry.gauge(BACKLOG).set_function(self._backlog_s)
        telemetry.gauge(RUNNING).set_function(lambda: self._in(Phase.RUNNING).sequences)
        telemetry.gauge(DECODE_LIMIT).set_function(lambda: self.load.census.most_sequences)
        telemetry.gauge(LAYERWISE_MIN).set_function(layerwise_min_tokens)
        for state in ("free", "cached", "used", "reserved", "sending"):
            telemetry.gauge(KV_BLOCKS, state=state).set_function(partial(self._blocks, state))
            telemetry.gauge(KV_BYTES, state=state).set_function(partial(self._bytes, state))
        self._queried, self._hit = dict.fromkeys(_SAVES, 0), dict.fromkeys(_SAVES, 0)
        for k in _SAVES:
            telemetry.show_total(PREFIX_QUERIED, partial(self._queried.__getitem__, k), saves=k)
            telemetry.show_total(PREFIX_HIT, partial(self._hit.__getitem__, k), saves=k)
        self._evicted_blocks = 0
        telemetry.show_total(PREFIX_EVICTED, lambda: self._evicted_blocks)
        self.is_draining = False
        self.fates = Counter[Fate]()
        """What became of sequences since the worker drains."""
        telemetry.gauge(DRAINING).set(0)
        self._loans = 0
        telemetry.show_total(LOANS, lambda: self._loans)
        self._borrowed = telemetry.gauge(BORROWED)
        self._should_change = telemetry.gauge(SHOULD_CHANGE)
        self._told = (False, False)

    def stepped(self, step: Stepped, tokens: Sequence[int], contexts: Iterable[int]) -> None:
        """Counts one step; `tokens` and `contexts` as in `ModelWork.step`."""
        self._seconds[step.kind].observe(step.seconds)
        self._tokens[step.kind].observe(step.tokens)
        self.load.stepped(step)
        self._estimates.stepped(step, tokens, contexts)

    def worked(self, seconds: float) -> None:
        """Counts one round of the loop that had a step in it, all but waiting for work.

        There is no other measure of utilisation: routers are told what Prometheus is.
        """
        self.busy_s += seconds

    def admitted(self, sequence: LiveSequence) -> None:
        """Counts what of a sequence was found in the prefix cache."""
        saves = "transfer" if sequence.phase is Phase.ARRIVING else "compute"
        self._queried[saves] += sequence.num_tokens
        self._hit[saves] += sequence.cached_tokens

    def ended(self, outcome: kv_pb2.Outcome, fate: Fate | None = None) -> None:
        """Counts the end of a sequence; its `fate` too, while the worker drains."""
        label = kv_pb2.Outcome.Name(outcome).lower()
        self._telemetry.counter(WORKER_SEQUENCES, outcome=label).inc()
        if fate is not None:
            self.drained(fate)

    def drained(self, fate: Fate) -> None:
        """Counts what became of a sequence, while the worker drains."""
        if self.is_draining:
            self.fates[fate] += 1
            self._telemetry.counter(DRAINED, fate=fate.value).inc()

    def draining(self) -> None:
        """From now on the worker drains."""
        self._telemetry.gauge(DRAINING).set(1)
        self.is_draining = True

    def observe(
        self, census: Census, lent_blocks: int, evicted_blocks: int, prompt_tokens_per_s: float
    ) -> None:
        """Shows queues and blocks as they are now; `lent_blocks` are with the sidecar's probe.

        `evicted_blocks` are all that the prefix cache has ever lost; a speed of 0 is not known.
        """
        self._prompt_tokens_per_s = prompt_tokens_per_s
        self.load.census = census
        self._lent_blocks = lent_blocks
        self._evicted_blocks = evicted_blocks

    def duty(self, duty: Duty, now_s: float) -> None:
        """Shows which part the worker plays, and says in the log when that changes."""
        self._loans = duty.loans
        told = duty.is_borrowed, duty.should_change(now_s)
        if told == self._told:
            return
        (was_borrowed, should_have), self._told = self._told, told
        self._borrowed.set(told[0])
        self._should_change.set(told[1])
        if told[0] != was_borrowed:
            log.info("borrowed by the other pool" if told[0] else "returned to its own pool")
        if told[1] and not should_have:
            fields = {"borrowed_s": round(duty.borrowed_s(now_s))}
            log.warning("works more for the other pool than its own", extra={"fields": fields})

    def _in(self, phase: Phase) -> Tally:
        return self.load.census.phases[phase]

    def _backlog_s(self) -> float:
        return backlog_s(self._in(Phase.WAITING).tokens, self._prompt_tokens_per_s)

    def _bytes(self, state: str) -> int:
        return self._blocks(state) * self._block_bytes

    def _blocks(self, state: str) -> int:
        """Each block counts once: one that is shared, with the sequence that did not find it."""
        census, lent = self.load.census, self._lent_blocks
        found = {
            "free": census.free_blocks - census.cached_blocks,
            "cached": census.cached_blocks,
            "reserved": self._in(Phase.ARRIVING).blocks + self._in(Phase.CLOSING).blocks + lent,
            "sending": self._in(Phase.SENDING).blocks,
        }
        return census.blocks - sum(found.values()) if state == "used" else found[state]
