"""Who need not wait, because it would wait for too long: a queue is bounded in seconds.

A request that cannot be answered in time costs others their time when it is computed all the same:
an overloaded cluster that turns nobody away answers everybody late. So a router asks how long one
would wait behind those that go before it, and turns it away when that is too long. What has not
been measured turns nobody away.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final, NamedTuple

MAX_QUEUE_S: Final = 10.0
"""The longest wait, where nobody has said another."""

COMMITTED_SHARE: Final = 0.5
"""Of the longest wait, what a worker may have queued before it gets no more. The rest is spent at
the router, where a fair order decides who is next: a prompt that a worker has is not taken back."""

FULL_STEP_TOKENS: Final = 128
"""A step of fewer prompt tokens says little of how fast a worker is: it costs hardly less time than
one of so many. Where many short prompts wait, they are computed together."""

LONGEST_RETRY_S: Final = 60

_MEMORY: Final = 0.9
"""What one measurement leaves of those before it: a speed is that of about the last ten."""


class Rejection(StrEnum):
    """Why a request is turned away though there are workers."""

    QUEUE_FULL = "queue-full"  # as many wait as may
    WOULD_WAIT = "would-wait"  # it was expected to wait for too long
    WAITED = "waited"  # it has


class Speed:
    """Tokens a second, of late: all tokens over all seconds, those long ago counting less."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._seconds = 0.0

    def note(self, tokens: int, seconds: float) -> None:
        """So many tokens took so long."""
        self._tokens = _MEMORY * self._tokens + tokens
        self._seconds = _MEMORY * self._seconds + seconds

    @property
    def tokens_per_s(self) -> float:
        """0: not known yet."""
        return self._tokens / self._seconds if self._seconds > 0 else 0.0


class PromptSpeed:
    """How fast a worker's prompts are computed, the decode steps between them counted in."""

    def __init__(self, step_tokens: int) -> None:
        """`step_tokens`: what a step may hold at most, where that is little."""
        self._full = min(step_tokens, FULL_STEP_TOKENS)
        self._speed = Speed()
        self._between_s = 0.0

    @property
    def tokens_per_s(self) -> float:
        """0: not known yet."""
        return self._speed.tokens_per_s

    def computed(self, tokens: int, seconds: float) -> None:
        """A step computed so many prompt tokens."""
        if tokens >= self._full:
            self._speed.note(tokens, self._between_s + seconds)
        self._between_s = 0.0

    def decoded(self, seconds: float, prompts_wait: bool) -> None:
        """A step was the tokens' turn."""
        self._between_s = self._between_s + seconds if prompts_wait else 0.0


class Waiting(NamedTuple):
    """A request in the queue. `stays`: it is not turned away, however long it waits."""

    prompt_tokens: int
    tokens: int  # of prompt and answer
    stays: bool = False


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a queue empties. A speed of 0 is not known.

    `backlog_s`: until the prompt worker with the least to do could begin with another prompt.
    `prompt_tokens_per_s`: of all prompt workers together. `tokens_per_s`: of prompts and answers,
    that found room while others waited: where decoding is what takes long, this says so.
    """

    backlog_s: float = 0.0
    prompt_tokens_per_s: float = 0.0
    tokens_per_s: float = 0.0

    def wait_s(self, prompt_tokens: int, tokens: int) -> float:
        """Seconds until a request is computed that so many tokens of others are queued before."""
        prompts_s = backlog_s(prompt_tokens, self.prompt_tokens_per_s)
        return self.backlog_s + max(prompts_s, backlog_s(tokens, self.tokens_per_s))


def backlog_s(tokens: int, tokens_per_s: float) -> float:
    """Seconds that so many tokens take; 0 when the speed is not known."""
    return tokens / tokens_per_s if tokens_per_s > 0 else 0.0


def is_committed(pending_prompt_tokens: int, tokens_per_s: float, limit_s: float) -> bool:
    """Whether a worker has as many prompts as it should, where nobody may wait above `limit_s`.

    One that has nothing to do never has.
    """
    return backlog_s(pending_prompt_tokens, tokens_per_s) > COMMITTED_SHARE * limit_s


def too_late(queue: Sequence[Waiting], pace: Pace, limit_s: float) -> list[int]:
    """Which of the queue would wait for more than `limit_s`, by index; the next one is the first.

    Each waits for those before it that are not turned away. So the last ones go, and in a fair
    order those are of whoever has piled up the most.
    """
    prompt_tokens = tokens = 0
    late: list[int] = []
    for index, waiting in enumerate(queue):
        if not waiting.stays and pace.wait_s(prompt_tokens, tokens) > limit_s:
            late.append(index)
        else:
            prompt_tokens += waiting.prompt_tokens
            tokens += waiting.tokens
    return late


def retry_after_s(wait_s: float, limit_s: float) -> int:
    """Whole seconds until one that would wait `wait_s` now is expected to be let in, 1 at least."""
    return max(1, min(LONGEST_RETRY_S, ceil(wait_s - limit_s)))
