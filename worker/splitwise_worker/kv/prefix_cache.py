"""Blocks for a sequence, of which the first may be those that an earlier one has left or still has.

At least one token is always computed, or moved: there is no next token without it.
"""

from splitwise_core.prefix import block_names
from splitwise_worker.kv.block_pool import BlockPool
from splitwise_worker.sequence import LiveSequence


class PrefixCache:
    """Gives a sequence its blocks. Without a `key` nothing is ever shared.

    The key is this process's own secret, and the process has one model: no other model's KV, and no
    name that a client could have made up, is found here.
    """

    def __init__(self, blocks: BlockPool, block_tokens: int, key: bytes | None) -> None:
        self._blocks = blocks
        self._block_tokens = block_tokens
        self._key = key

    def claim(self, sequence: LiveSequence, num_blocks: int) -> bool:
        """Gives the sequence its blocks and says what of it they hold; False without room."""
        found = self._find(sequence)
        self._blocks.retain(found)
        missing = num_blocks - len(found)
        if not self._blocks.can_allocate(missing):
            self._blocks.release(found)
            return False
        sequence.blocks = found + self._blocks.allocate(missing)
        sequence.cached_tokens = len(found) * self._block_tokens
        return True

    def keep(self, sequence: LiveSequence) -> None:
        """Lets others find the full blocks of a sequence, whose K/V are as they should be."""
        if self._key is None:
            return
        tokens = (sequence.prompt_tokens + sequence.output_tokens)[: sequence.computed_tokens]
        self._name(sequence, tokens)
        self._blocks.name(sequence.blocks, sequence.block_names)

    def _find(self, sequence: LiveSequence) -> tuple[int, ...]:
        if self._key is None:
            return ()
        self._name(sequence, sequence.prompt_tokens + sequence.output_tokens)
        return self._blocks.find(sequence.block_names[: self._most(sequence.num_tokens)])

    def _most(self, num_tokens: int) -> int:
        """Blocks of a sequence that may come from the cache."""
        return (num_tokens - 1) // self._block_tokens

    def _name(self, sequence: LiveSequence, tokens: list[int]) -> None:
        assert self._key is not None
        sequence.block_names = block_names(
            tokens, self._block_tokens, self._key, sequence.block_names
        )
