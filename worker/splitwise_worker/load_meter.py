"""What a worker says of its load at /load: what it holds now, and all that it has done so far.

The operator reads it to scale the worker's pool; the engine's thread pays some additions for it.
"""

import json
from dataclasses import asdict, dataclass

from splitwise_core.policy.batching import StepKind
from splitwise_core.policy.scaling.signals import BOUNDS_S, WorkerLoad, bucket
from splitwise_worker.scheduler import Census, Tally
from splitwise_worker.sequence import Phase


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step that was computed: tokens of prompts, and sequences that decoded a token each.

    Of a step of both, the seconds are shared out: see `Duty.worked_mixed`.
    """

    kind: StepKind
    prompt_tokens: int = 0
    decoded: int = 0
    prompt_s: float = 0.0
    token_s: float = 0.0

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.prompt_tokens + self.decoded

    @property
    def seconds(self) -> float:
        """What the step took."""
        return self.prompt_s + self.token_s


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

    def stepped(self, step: Stepped) -> None:
        """Counts one step."""
        self._tokens[StepKind.PROMPT] += step.prompt_tokens
        self._tokens[StepKind.TOKEN] += step.decoded
        self._seconds[StepKind.PROMPT] += step.prompt_s
        self._seconds[StepKind.TOKEN] += step.token_s
        if step.decoded:
            self._steps += 1
            self._tbt[bucket(step.seconds)] += step.decoded

    def first_token(self, seconds: float) -> None:
        """Counts a prompt that is done, so long after it has arrived here."""
        self._prompts += 1
        self._ttft[bucket(seconds)] += 1

    def tokens(self, kind: StepKind) -> int:
        """All tokens that were computed so far, of prompts or of sequences that decode."""
        return self._tokens[kind]

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
