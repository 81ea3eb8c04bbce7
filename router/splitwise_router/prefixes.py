"""What of a prompt stands in the caches of workers, as this router remembers where it sent them."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from splitwise_core.policy.prefixes import ROUTED_TOKENS, PrefixIndex
from splitwise_core.prefix import block_names
from splitwise_router.session import Session

BLOCK_TOKENS: Final = 32
"""As in our own workers. It is no promise: with other blocks the guess is a block too long."""


class Prefixes:
    """The beginnings of prompts that went to workers. A worker that starts anew has none."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._index = PrefixIndex()

    def names(self, prompt: Sequence[int]) -> list[bytes]:
        """The names of the first full blocks of a prompt."""
        return block_names(prompt[:ROUTED_TOKENS], BLOCK_TOKENS, self._key)

    def note(self, names: Sequence[bytes], *workers: Session | None) -> None:
        """A prompt that begins like this goes to these workers."""
        for worker in workers:
            if worker is not None and worker.info is not None:
                self._index.note(worker.info.incarnation, names)

    def cached(
        self, names: Sequence[bytes], rows: Mapping[int, Sequence[int]], prompt_tokens: int
    ) -> Mapping[int, int]:
        """By row the tokens that a worker has; `rows` are by workers' incarnations.

        At least one token of all is computed.
        """
        most = prompt_tokens - 1
        return {
            row: min(blocks * BLOCK_TOKENS, most)
            for worker, blocks in self._index.find(names).items()
            for row in rows.get(worker, ())
        }
