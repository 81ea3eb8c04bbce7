"""Blocks for a sequence, of which the first may be those that an earlier one has left or still has.

At least one token is always computed, or moved: there is no next token without it.
"""

from splitwise_core.policy.block_pool import BlockPool
from splitwise_core.prefix import block_names, most_cached
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
        claimed = self._blocks.claim(num_blocks, self._names(sequence))
        if claimed is None:
            return False
        sequence.blocks, found = claimed
        sequence.cached_tokens = found * self._block_tokens
        return True

    def keep(self, sequence: LiveSequence) -> None:
        """Lets others find the full blocks of a sequence, whose K/V are as they should be."""
        if self._key is None:
            return
        tokens = (sequence.prompt_tokens + sequence.output_tokens)[: sequence.computed_tokens]
        self._name(sequence, tokens)
        self._blocks.name(sequence.blocks, sequence.block_names)

    def _names(self, sequence: LiveSequence) -> list[bytes]:
        """Of the blocks of a sequence that may come from the cache."""
        if self._key is None:
            return []
        self._name(sequence, sequence.prompt_tokens + sequence.output_tokens)
        return sequence.block_names[: most_cached(sequence.num_tokens, self._block_tokens)]

    def _name(self, sequence: LiveSequence, tokens: list[int]) -> None:
        assert self._key is not None
        sequence.block_names = block_names(
            tokens, self._block_tokens, self._key, sequence.block_names
        )
