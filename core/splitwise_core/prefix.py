"""Names for what stands in a KV block: the same name means the same tokens from the beginning on.

K/V of a token depend on all tokens before it, so a block is named by its own tokens and the name of
the block before. Names are keyed: whoever does not know the key can neither foresee one nor look
for two token strings that share one, so that nobody is served from another's KV by a collision.
"""

from array import array
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

NAME_BYTES: Final = 16
"""A chance meeting of two among 10**12 blocks has odds below 10**-14."""


def most_cached(num_tokens: int, block_tokens: int) -> int:
    """Blocks of so many tokens that a cache may give: there is no next token unless one at least is
    computed, or moved."""
    return (num_tokens - 1) // block_tokens


def block_names(
    tokens: Sequence[int], block_tokens: int, key: bytes, known: Sequence[bytes] = ()
) -> list[bytes]:
    """The names of the full blocks of `tokens`, in order; `known` are the first of them.

    `key` has up to 64 bytes, and is one per model: KV of another model is another's.
    """
    names = list(known)
    name = names[-1] if names else b""
    for start in range(len(names) * block_tokens, len(tokens) - block_tokens + 1, block_tokens):
        content = array("I", tokens[start : start + block_tokens]).tobytes()
        name = blake2b(name + content, digest_size=NAME_BYTES, key=key).digest()
        names.append(name)
    return names
