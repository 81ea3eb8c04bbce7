"""The words of the cluster scheduler: what is asked, what is answered, and why."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Why a placement is what it is."""

    SPLIT = "split"  # the two pools of the phases
    PROMPT_OVERFLOW = "prompt-overflow"  # the prompt went to the mixed pool
    TOKEN_OVERFLOW = "token-overflow"  # the tokens went to the mixed pool
    ONE_WORKER = "one-worker"  # both phases on one mixed worker, nothing is moved
    BORROWED_TOKEN_WORKER = "borrowed-token-worker"  # both phases there: prompts queue too long
    BORROWED_PROMPT_WORKER = "borrowed-prompt-worker"  # both phases there: no other room to decode
    SHORT_PROMPT = "short-prompt"  # both phases on one worker: not worth a transfer
    CHEAPER_TOGETHER = "cheaper-together"  # both phases on one worker, by measured times
    SINGLE_TOKEN = "single-token"  # one output token: the prompt's own, no decode needed
    NO_PROMPT_WORKER = "no-prompt-worker"
    NO_TOKEN_WORKER = "no-token-worker"
    NO_CAPACITY = "no-capacity"  # workers there are, room there is none


class Placement(NamedTuple):
    """The workers of a request. `token` is None when no decode is needed, or nothing was found."""

    prompt: int | None
    token: int | None
    reason: Reason

    @property
    def found(self) -> bool:
        """Whether there is a worker for every phase that the request needs."""
        return self.prompt is not None


class Asked(NamedTuple):
    """Tokens of a request: of its prompt, at most in all, and those that each worker has."""

    prompt: int
    total: int
    cached: Mapping[int, int]

    @property
    def decodes(self) -> bool:
        """Whether more than the prompt's own token may come."""
        return self.total - self.prompt > 1

    def to_compute(self, worker: int) -> int:
        """Prompt tokens that a worker lacks."""
        return self.prompt - self.cached.get(worker, 0)
