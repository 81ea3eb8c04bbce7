"""The shape of a paged KV-cache and where each sequence's bytes lie in it.

Worker and sidecar compute offsets from the same `KvGeometry`, so block ids are all that travels.
The pool is one region: `[num_blocks, num_layers, 2, block_tokens, kv_heads, head_dim]`; index 2 is
K then V. A layer of a full block is therefore contiguous, and a partly filled block is two runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, NamedTuple

DTYPE_BYTES: Final = {"float32": 4, "float16": 2, "bfloat16": 2}


class Run(NamedTuple):
    """A contiguous piece of the pool, in bytes."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class KvGeometry:
    """Everything both ends of a transfer must agree on before a byte moves."""

    model: str
    dtype: str
    num_layers: int
    kv_heads: int
    head_dim: int
    block_tokens: int

    def __post_init__(self) -> None:
        assert self.dtype in DTYPE_BYTES, self.dtype
        assert min(self.num_layers, self.kv_heads, self.head_dim, self.block_tokens) > 0

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's K (or V) in one layer."""
        return self.kv_heads * self.head_dim * DTYPE_BYTES[self.dtype]

    @property
    def layer_bytes(self) -> int:
        """Bytes of one layer of one block: K and V of `block_tokens` tokens."""
        return 2 * self.block_tokens * self.token_bytes

    @property
    def block_bytes(self) -> int:
        """Bytes of one block: all its layers."""
        return self.num_layers * self.layer_bytes

    def sequence_bytes(self, num_tokens: int) -> int:
        """Bytes of the KV of `num_tokens` tokens in all layers: what a transfer moves."""
        return 2 * self.num_layers * num_tokens * self.token_bytes

    def blocks_for(self, num_tokens: int) -> int:
        """Blocks that hold `num_tokens` tokens."""
        return -(-num_tokens // self.block_tokens)

    def fingerprint(self) -> bytes:
        """16 bytes that differ whenever two pools could not exchange KV."""
        fields = (self.model, self.dtype, self.num_layers, self.kv_heads, self.head_dim)
        return sha256(repr((*fields, self.block_tokens)).encode()).digest()[:16]

    def layer_runs(self, layer: int, blocks: Sequence[int], num_tokens: int) -> Iterator[Run]:
        """The runs that hold layer `layer` of a sequence's first `num_tokens` tokens, in order."""
        return self.runs(layer, 1, blocks, num_tokens)

    def runs(
        self, first: int, layers: int, blocks: Sequence[int], num_tokens: int
    ) -> Iterator[Run]:
        """The runs that hold so many layers from `first` on; those of a full block are one run.

        Both ends of a transfer see the same lengths in the same order, whatever their block ids.
        """
        assert 0 <= first < first + layers <= self.num_layers
        assert self.blocks_for(num_tokens) <= len(blocks)
        full, rest = divmod(num_tokens, self.block_tokens)
        start, length = first * self.layer_bytes, layers * self.layer_bytes
        for block in blocks[:full]:
            yield Run(block * self.block_bytes + start, length)
        if rest:
            base = blocks[full] * self.block_bytes + start
            for at in range(base, base + length, self.layer_bytes // 2):  # K, V, K, V, ...
                yield Run(at, rest * self.token_bytes)
