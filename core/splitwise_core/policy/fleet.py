"""A fleet as the cluster scheduler sees it: columns of plain numbers; a worker is an index."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Role(IntEnum):
    """Which phases a worker's pool serves."""

    PROMPT = 0
    TOKEN = 1
    MIXED = 2


ROLES: Final = {"prompt": Role.PROMPT, "token": Role.TOKEN, "mixed": Role.MIXED}
"""By the words of a spec and of worker messages."""

NOWHERE: Final = -1


@dataclass(frozen=True, slots=True)
class FleetView:
    """What the router knows of its workers, as parallel columns; a worker is its index.

    `revision`: equal where KV may move from one worker to the other.
    `pending_prompt_tokens`: prompt tokens queued or being computed. `pending_tokens`: KV tokens of
    sequences that decode or wait to. `free_blocks` / `free_sequences`: what the worker can still
    admit, counting what this router has sent and the worker has not reported yet. `borrowed`: has
    work of the other phase, or had until just now; without the column, none has.
    """

    role: Sequence[int]
    revision: Sequence[int]
    ready: Sequence[bool]
    pending_prompt_tokens: Sequence[int]
    pending_tokens: Sequence[int]
    free_blocks: Sequence[int]
    free_sequences: Sequence[int]
    block_tokens: Sequence[int]
    borrowed: Sequence[bool] = ()

    def is_borrowed(self, worker: int) -> bool:
        """Whether a worker serves the other pool's phase too."""
        return bool(self.borrowed) and self.borrowed[worker]

    def fits(self, worker: int, tokens: int) -> bool:
        """Whether a worker is ready and could reserve blocks for `tokens` tokens now."""
        size = self.block_tokens[worker]
        blocks = (tokens + size - 1) // size
        return (
            self.ready[worker]
            and self.free_blocks[worker] >= blocks
            and self.free_sequences[worker] > 0
        )

    def fitting(self, revision: int, roles: Sequence[int], tokens: int) -> Iterator[int]:
        """The workers of a revision and of some roles that have room for `tokens`."""
        for worker, role in enumerate(self.role):
            if role in roles and self.revision[worker] == revision and self.fits(worker, tokens):
                yield worker
