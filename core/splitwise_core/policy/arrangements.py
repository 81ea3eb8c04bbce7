"""What workers would do with a load if they were arranged otherwise. Pure.

From measured stage times, by textbook queues:

* A prompt waits as in a queue of random arrivals before all workers that compute prompts (Erlang's
  C formula) and takes what it was measured to take.
* Where phases share workers, prompts take a share of the time, and tokens come that much slower; a
  token that a prompt comes before waits for a chunk of it.
* Where they do not, the second token waits for the hand-over, as measured.
* How much quicker steps of fewer sequences are was not measured: everything is computed for steps
  that stay as long (bound by memory) and for such that shrink with the root of them (partly bound
  by computing), and an answer counts where neither speaks against it.
"""

from dataclasses import dataclass, fields
from math import inf
from typing import Final

from splitwise_core.policy.batching import CHUNK_TOKENS
from splitwise_core.policy.chance import waiting
from splitwise_core.policy.scaling.slo import MOST_BUSY

SHRINKING: Final = 0.0, 0.5
"""A step of a part x of the sequences takes x to this power of the time. Steps that are bound by
computing alone (1.0) are none that anybody should decode in: their batches are too large."""

MOST_SPLITS: Final = 64
"""Of very many workers not every split is looked at."""

TAIL: Final = 0.01
"""The tail is what at least one token in a hundred waits for."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What came about in `seconds`: requests that ended, sums of their stages, and the workers.

    `prefill_s`: from the start of a prompt to its first token. `transfer_s`: from there to its KV
    being verified, over `transfers` requests; `first_decode_s`: from there to the second token.
    `gap_s`: between two tokens of a request, over `gaps` of them. `prompt_tokens_per_s`: of one
    worker that computes prompts; 0 while it is not known. `chunk_tokens`: of a prompt that is
    computed while others decode.
    """

    seconds: float
    requests: int
    prompt_tokens: int
    output_tokens: int
    e2e_s: float
    prefills: int
    prefill_s: float
    transfers: int
    transfer_s: float
    first_decode_s: float
    gaps: int
    gap_s: float
    prompt_workers: int
    token_workers: int
    mixed_workers: int
    prompt_tokens_per_s: float = 0.0
    chunk_tokens: int = CHUNK_TOKENS

    @property
    def workers(self) -> int:
        """All of them."""
        return self.prompt_workers + self.token_workers + self.mixed_workers

    def since(self, before: "Stages") -> "Stages | None":
        """What came about since then, with the workers of now; None when counters began anew."""
        kept = {"prompt_workers", "token_workers", "mixed_workers"}
        kept |= {"prompt_tokens_per_s", "chunk_tokens"}
        made = {
            field.name: getattr(self, field.name)
            - (0 if field.name in kept else getattr(before, field.name))
            for field in fields(Stages)
        }
        return Stages(**made) if all(value >= 0 for value in made.values()) else None


@dataclass(frozen=True, slots=True)
class Expected:
    """What an arrangement is expected to do with the load. Seconds are inf when it falls behind.

    Both counts are all workers where each does both phases. `tail_s` is the wait for a token that
    one in a hundred exceeds; `prompt_busy` the part of the time that prompts are computed.
    """

    prompt_workers: int
    token_workers: int
    prompt_busy: float
    ttft_s: float
    tbt_s: float
    tail_s: float
    e2e_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """The load and its stages, of one request on average. A prompt takes `prompt_s`, and `work_s`
    of a worker, which is less where prompts are computed together. `step_s` is that of a step
    between whose likes no prompt is computed, by as many workers as decode now."""

    rate: float
    prompt_s: float
    work_s: float
    chunk_s: float
    chunks: float
    hand_over_s: float
    step_s: float
    decoded: float
    decoding_workers: int


Pair = tuple[Expected | None, Expected | None]
"""Together, and the best split; None for what falls behind."""


def load_of(stages: Stages) -> Load:
    """The load that was measured; there was a request, and a prompt."""
    prompt_s = stages.prefill_s / stages.prefills
    hand_over_s = (stages.transfer_s + stages.first_decode_s) / max(1, stages.transfers)
    decoded = max(0.0, stages.output_tokens / stages.requests - 1)
    handed_over = min(1.0, stages.transfers / stages.requests)
    gap_s = stages.gap_s / stages.gaps if stages.gaps else 0.0
    rest = decoded - handed_over
    if not decoded:  # prompts wait for no step
        step_s = 0.0
    elif rest > 0:
        step_s = max(0.0, (gap_s * decoded - handed_over * hand_over_s) / rest)
    else:  # each gap is a hand-over, of which a step is the end
        step_s = stages.first_decode_s / stages.transfers if stages.transfers else gap_s
    rate = stages.requests / stages.seconds
    tokens = stages.prompt_tokens / stages.prefills
    speed = stages.prompt_tokens_per_s
    work_s = min(prompt_s, tokens / speed) if speed > 0 else prompt_s
    if stages.mixed_workers:  # steps were measured with prompts between them
        busy = rate * work_s / (stages.prompt_workers + stages.mixed_workers)
        step_s *= max(0.0, 1 - busy)
    chunks = max(1.0, tokens / stages.chunk_tokens)
    return Load(
        rate=rate,
        prompt_s=prompt_s,
        work_s=work_s,
        chunk_s=work_s / chunks,
        chunks=chunks,
        hand_over_s=hand_over_s,
        step_s=step_s,
        decoded=decoded,
        decoding_workers=max(1, stages.token_workers + stages.mixed_workers),
    )


def compared(load: Load, workers: int) -> list[Pair]:
    """For each of SHRINKING, all workers together and the one split that is best if steps shrink:
    if they did not, one worker for all tokens would always do, as far as time goes. There are two
    workers at least."""

    def e2e_s(prompts: int) -> float:
        return e2e_of(split_over(load, prompts, workers - prompts, SHRINKING[-1]))

    best = min(range(1, workers, max(1, workers // MOST_SPLITS)), key=e2e_s)
    return [
        (shared(load, workers, shrinks), split_over(load, best, workers - best, shrinks))
        for shrinks in SHRINKING
    ]


def e2e_of(one: Expected | None) -> float:
    """End to end; inf for what falls behind."""
    return one.e2e_s if one else inf


def _step_s(load: Load, workers: int, shrinks: float) -> float:
    """Of a step when so many workers decode what is decoded now: on each one sequence at least,
    and on average as many as Little's law says."""
    running = load.rate * load.decoded * load.step_s
    batch, now = max(1.0, running / workers), max(1.0, running / load.decoding_workers)
    return float(load.step_s * (batch / now) ** shrinks)


def shared(load: Load, workers: int, shrinks: float = 0.0) -> Expected | None:
    """With workers that all do both phases; None when prompts pile up."""
    busy = load.rate * load.work_s / workers
    if busy > MOST_BUSY:
        return None
    alone_s = _step_s(load, workers, shrinks)
    step_s = alone_s / (1 - busy)
    ttft_s = _wait_s(load, workers) + load.prompt_s + alone_s / 2  # the step that runs ends first
    meets = load.rate * load.chunks / workers * step_s  # steps that come behind a chunk
    tail_s = alone_s + load.chunk_s if meets >= TAIL else step_s
    e2e_s = ttft_s + load.decoded * step_s
    return Expected(workers, workers, busy, ttft_s, step_s, tail_s, e2e_s)


def split_over(load: Load, prompts: int, tokens: int, shrinks: float = 0.0) -> Expected | None:
    """With workers for prompts and workers for tokens; None when prompts pile up."""
    busy = load.rate * load.work_s / prompts
    if busy > MOST_BUSY:
        return None
    step_s = _step_s(load, tokens, shrinks)
    ttft_s = _wait_s(load, prompts) + load.prompt_s
    e2e_s, tail_s = ttft_s, step_s
    if load.decoded >= 1:
        e2e_s += load.hand_over_s + (load.decoded - 1) * step_s
        tail_s = max(step_s, load.hand_over_s) if 1 / load.decoded >= TAIL else step_s
    return Expected(prompts, tokens, busy, ttft_s, step_s, tail_s, e2e_s)


def _wait_s(load: Load, workers: int) -> float:
    """The mean wait of a prompt for the first of so many workers (Erlang's C formula)."""
    offered = load.rate * load.work_s
    *_, waits = waiting(offered, workers)
    return waits * load.work_s / (workers - offered)
