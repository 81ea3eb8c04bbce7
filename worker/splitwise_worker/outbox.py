"""What the engine tells routers: updates of one step, gathered per session, and the load."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from splitwise_core.policy.duty import Duty
from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker.sampling import Sampled
from splitwise_worker.scheduler import Census
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey

Updates = dict[int, list[worker_pb2.Update]]
"""Updates by session."""


@dataclass(slots=True)
class Outbox:
    """Holds back until the step is over, so that a session gets one message for all sequences."""

    deliver: Callable[[Updates, worker_pb2.Load], None]
    _updates: Updates = field(default_factory=dict)
    _load: worker_pb2.Load | None = None

    def put(self, key: SequenceKey, update: worker_pb2.Update) -> None:
        """Adds to what the next `flush` delivers."""
        self._updates.setdefault(key.session, []).append(update)

    def flush(self, load: worker_pb2.Load) -> None:
        """Delivers if there is news."""
        if self._updates or load != self._load:
            self.deliver(self._updates, load)
            self._updates, self._load = {}, load


def token_update(
    sequence: LiveSequence,
    sampled: Sampled,
    finish: worker_pb2.Finish,
    stages: worker_pb2.Stages | None = None,
) -> worker_pb2.Update:
    """One new token of `sequence`."""
    logprobs: Sequence[worker_pb2.TokenLogprobs] = ()
    if sequence.params.logprobs is not None:
        logprobs = [
            worker_pb2.TokenLogprobs(
                logprob=sampled.logprob,
                top_tokens=[token for token, _ in sampled.top],
                top_logprobs=[logprob for _, logprob in sampled.top],
            )
        ]
    return worker_pb2.Update(
        sequence=sequence.key.number,
        tokens=[sampled.token],
        logprobs=logprobs,
        finish=finish,
        stages=stages,
    )


def failure(key: SequenceKey, outcome: kv_pb2.Outcome, detail: str) -> worker_pb2.Update:
    """The end of a sequence that did not get to its own end."""
    return worker_pb2.Update(
        sequence=key.number, finish=worker_pb2.FINISH_FAILED, outcome=outcome, detail=detail
    )


def move_wanted(key: SequenceKey) -> worker_pb2.Update:
    """This worker drains, and a peer should go on with the sequence."""
    return worker_pb2.Update(sequence=key.number, moving=worker_pb2.MOVING_WANTED)


def move_failure(key: SequenceKey, outcome: kv_pb2.Outcome, detail: str) -> worker_pb2.Update:
    """The sequence goes on here after all."""
    return worker_pb2.Update(
        sequence=key.number, moving=worker_pb2.MOVING_FAILED, outcome=outcome, detail=detail
    )


def load_of(
    census: Census,
    ready: bool,
    draining: bool,
    prompt_tokens_per_s: float,
    busy_s: float,
    duty: Duty,
    now_s: float,
) -> worker_pb2.Load:
    """What a router needs to know to place the next request, and shows of the worker."""
    waiting, running = census.phases[Phase.WAITING], census.phases[Phase.RUNNING]
    return worker_pb2.Load(
        ready=ready,
        draining=draining,
        queued_requests=waiting.sequences,
        queued_tokens=waiting.tokens,
        running=running.sequences,
        running_tokens=running.tokens + census.phases[Phase.ARRIVING].tokens,
        free_blocks=census.free_blocks,
        free_sequences=census.free_sequences,
        prompt_tokens_per_s=prompt_tokens_per_s,
        step_base_s=duty.steps.base_s,
        step_slope_s=duty.steps.slope_s,
        prompt_share=duty.prompt_share(now_s),
        borrowed=duty.is_borrowed,
        should_change=duty.should_change(now_s),
        busy_s=busy_s,
        sequences=census.sequences,
    )
