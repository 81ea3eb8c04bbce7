"""Machine scheduler (MLS): a worker's queues in, the next step out.

The rules are those of the Splitwise paper (Patel et al., ISCA 2024, section 4.3): prompts run first
come, first served, up to 2,048 prompt tokens in a batch, because prefill throughput falls beyond;
tokens are batched as far as memory goes; a mixed machine prefers prompts, within a limit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PROMPT_BATCH_TOKENS: Final = 2048
"""Prompt tokens in one batch: the paper's figure for the knee of prefill throughput."""

PROMPT_STEPS_BEFORE_DECODE: Final = 4
"""Prompt steps that may run in a row while sequences wait to decode on the same worker."""


class StepKind(StrEnum):
    """What a step of the engine computes."""

    PROMPT = "prompt"
    TOKEN = "token"
    IDLE = "idle"


@dataclass(frozen=True, slots=True)
class Step:
    """The next step: `prompts` is how many of the oldest waiting prompts run in it."""

    kind: StepKind
    prompts: int = 0


def next_step(
    waiting_tokens: Sequence[int],
    running: int,
    prompt_steps_in_a_row: int,
    batch_tokens: int = PROMPT_BATCH_TOKENS,
) -> Step:
    """What to run now.

    `waiting_tokens` are the sizes of the admitted prompts in order of arrival, `running` the number
    of sequences that decode, `prompt_steps_in_a_row` the prompt steps since the last token step.
    """
    tokens_have_waited = running > 0 and prompt_steps_in_a_row >= PROMPT_STEPS_BEFORE_DECODE
    if waiting_tokens and not tokens_have_waited:
        return Step(StepKind.PROMPT, prompt_batch(waiting_tokens, batch_tokens))
    if running > 0:
        return Step(StepKind.TOKEN)
    return Step(StepKind.IDLE)


def prompt_batch(waiting_tokens: Sequence[int], batch_tokens: int) -> int:
    """How many of the oldest prompts fit in one batch; a prompt above the cap runs alone."""
    total = 0
    for count, tokens in enumerate(waiting_tokens):
        total += tokens
        if total > batch_tokens:
            return max(1, count)
    return len(waiting_tokens)
