"""Machine scheduler (MLS): a worker's queues in, the next step out.

The rules are those of the Splitwise paper (Patel et al., ISCA 2024, section 4.3): prompts run first
come, first served, up to 2,048 prompt tokens in a batch, because prefill throughput falls beyond;
tokens are batched as far as memory goes; a mixed machine prefers prompts, and those that decode
gain with age. Ours beyond the paper: while sequences decode, prompts are computed in chunks, so
that a long one stalls nobody for longer than a short one, and whose turn it is to decode does so
in one step with a chunk (as in Agrawal et al., "Taming Throughput-Latency Tradeoff in LLM Inference
with Sarathi-Serve", OSDI 2024): the weights are read once for both; who is first among prompts is
decided by `policy.fairness`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PROMPT_BATCH_TOKENS: Final = 2048
"""Prompt tokens in one batch: the paper's figure for the knee of prefill throughput."""

CHUNK_TOKENS: Final = 512
"""Prompt tokens in one step while sequences decode on the same worker."""

PREEMPTIONS: Final = 2
"""Of so many prompt steps in a row one is of tokens too, to begin with; then of half as many. With
the first one of their own short prompts wait for no tokens; with more, tokens would wait for chunks
whose steps they make hardly longer (docs/bench.md, prompts beside tokens)."""


class StepKind(StrEnum):
    """What a step of the engine computes."""

    PROMPT = "prompt"
    TOKEN = "token"
    MIXED = "mixed"  # a chunk of prompts, and a token of each sequence that decodes
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Step:
    """The next step: `prompt_tokens` are how many tokens run of each of the first prompts."""

    kind: StepKind
    prompt_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Preempted:
    """How sequences that decode have fared since no prompt was waiting."""

    in_a_row: int = 0  # steps that they had no part in, since the last one that they had
    age: int = 0  # steps that they had part in beside prompts

    @property
    def enough(self) -> bool:
        """Whether the next step is of tokens too: the second one, and each one from there on."""
        return self.in_a_row + 1 >= PREEMPTIONS >> self.age

    def after(self, step: Step, running: int) -> "Preempted":
        """What is to be remembered when `step` has been chosen, and `running` sequences decode."""
        if step.kind is StepKind.PROMPT and running:
            return Preempted(self.in_a_row + 1, self.age)
        if step.kind is StepKind.MIXED:
            return Preempted(0, min(self.age + 1, PREEMPTIONS))
        return Preempted()


def next_step(
    waiting_tokens: Sequence[int],
    running: int,
    preempted: Preempted,
    batch_tokens: int = PROMPT_BATCH_TOKENS,
    chunk_tokens: int = CHUNK_TOKENS,
) -> Step:
    """What to run now.

    `waiting_tokens` are what the prompts still have to compute, the next one first; `running` is
    the number of sequences that decode.
    """
    if not waiting_tokens:
        return Step(StepKind.TOKEN if running else StepKind.IDLE)
    if not running:
        whole = prompt_batch(waiting_tokens, batch_tokens)
        return Step(StepKind.PROMPT, tuple(waiting_tokens[:whole]))
    chunk = chunks(waiting_tokens, min(chunk_tokens, batch_tokens))
    return Step(StepKind.MIXED if preempted.enough else StepKind.PROMPT, chunk)


def chunks(waiting_tokens: Sequence[int], budget: int) -> tuple[int, ...]:
    """Tokens of each of the first prompts that fill `budget`; the last of them may be cut."""
    taken: list[int] = []
    for tokens in waiting_tokens:
        if budget == 0:
            break
        taken.append(min(tokens, budget))
        budget -= taken[-1]
    return tuple(taken)


def prompt_batch(waiting_tokens: Sequence[int], batch_tokens: int) -> int:
    """How many of the oldest prompts fit in one batch; a prompt above the cap runs alone."""
    total = 0
    for count, tokens in enumerate(waiting_tokens):
        total += tokens
        if total > batch_tokens:
            return max(1, count)
    return len(waiting_tokens)
