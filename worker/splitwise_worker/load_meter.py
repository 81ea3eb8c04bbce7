"""What a worker says of its load at /load: what it holds now, and all that it has done so far.

The operator reads it to scale the worker's pool; the engine's thread pays some additions for it.
"""

import json
from dataclasses import asdict

from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.scaling.signals import BOUNDS_S, WorkerLoad, bucket
from splitwise_worker.scheduler import Census, Tally
from splitwise_worker.sequence import Phase


class LoadMeter:
    """Counts for one engine, whose thread writes; any thread may ask."""

    def __init__(self) -> None:
        self.census = Census({phase: Tally(0, 0, 0) for phase in Phase}, 0, 0, 0, 0, 0)
        self._prompts = 0
        self._tokens = dict.fromkeys((StepKind.PROMPT, StepKind.TOKEN), 0)
        self._seconds = dict.fromkeys((StepKind.PROMPT, StepKind.TOKEN), 0.0)
        self._steps = 0
        self._ttft = [0] * (len(BOUNDS_S) + 1)
        self._tbt = [0] * (len(BOUNDS_S) + 1)

    def stepped(self, kind: StepKind, tokens: int, seconds: float) -> None:
        """Counts one step; one of tokens has as many of them as it has sequences."""
        self._tokens[kind] += tokens
        self._seconds[kind] += seconds
        if kind is StepKind.TOKEN:
            self._steps += 1
            self._tbt[bucket(seconds)] += tokens

    def first_token(self, seconds: float) -> None:
        """Counts a prompt that is done, so long after it has arrived here."""
        self._prompts += 1
        self._ttft[bucket(seconds)] += 1

    def load(self, life: int, block_tokens: int, num_blocks: int, max_sequences: int) -> WorkerLoad:
        """The load of a worker with so much room, as far as its sequences' pace lets it be used."""
        phases = self.census.phases
        waiting, running = phases[Phase.WAITING], phases[Phase.RUNNING]
        arriving = phases[Phase.ARRIVING]
        return WorkerLoad(
            life=life,
            kv_capacity=num_blocks * block_tokens,
            max_sequences=min(max_sequences, self.census.most_sequences or max_sequences),
            queued_tokens=waiting.tokens,
            waiting=waiting.sequences,
            kv_waiting=waiting.blocks * block_tokens,
            taken=running.sequences,
            kv_taken=running.blocks * block_tokens,
            reserved=arriving.sequences,
            kv_reserved=arriving.blocks * block_tokens,
            prompts_total=self._prompts,
            prompt_tokens_total=self._tokens[StepKind.PROMPT],
            prompt_s_total=self._seconds[StepKind.PROMPT],
            steps_total=self._steps,
            step_s_total=self._seconds[StepKind.TOKEN],
            step_tokens_total=self._tokens[StepKind.TOKEN],
            ttft_counts=tuple(self._ttft),
            tbt_counts=tuple(self._tbt),
        )


def page(load: WorkerLoad) -> bytes:
    """The load as JSON."""
    return json.dumps(asdict(load)).encode()
