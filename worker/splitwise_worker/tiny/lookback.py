"""Starting weights in which looking back is laid out, so that training only has to sharpen it.

Finding "what stood behind this token last time" from nothing takes a transformer thousands of
steps: one layer has to learn to look one token back before the next gains anything from it. Here
the first layer starts as such a look, and the second as a comparison of the present token with what
the first has fetched (the two halves of an induction head: Olsson et al., 2022). Everything is
trained on.
"""

import math
from typing import Final

import torch
from torch import Tensor

CONTENT: Final = 64
"""Dimensions 0 to 63 hold which token stands here, 64 to 126 which one stood before it."""

_POSITION_PAIRS: Final = 6
"""Fast-turning pairs of a head, which tell neighbours apart; the others hardly turn at all."""

_POINTER: Final = 1.9
"""Scale of the look-back's query and key: its neighbours weigh e**-8 of it."""

_MATCH: Final = 1.2
_FETCH: Final = 0.8


def lay_out(weights: dict[str, Tensor], heads: int, kv_heads: int, theta: float) -> None:
    """Writes the two look-back heads into freshly drawn `weights`, in place."""
    with torch.no_grad():
        embedding = weights["model.embed_tokens.weight"]
        width = embedding.shape[1]
        embedding[:, :CONTENT] *= 10  # the token itself stands out from the noise around it
        embedding[:, CONTENT:] = 0
        embedding[:, -1] = 4 * embedding[:, :CONTENT].std()  # a constant: what positions hang on
        size = CONTENT // kv_heads
        group = heads // kv_heads
        for kv_head in range(kv_heads):
            head = kv_head * group
            _previous_token(weights, head, kv_head, size, theta)
            _same_token(weights, head, kv_head, size)
            end = min(CONTENT + (kv_head + 1) * size, width - 1)
            rows = torch.arange(CONTENT + kv_head * size, end)
            columns = torch.arange(len(rows)) + head * size
            weights["model.layers.0.self_attn.o_proj.weight"][rows, columns] += _FETCH
            rows = torch.arange(kv_head * size, (kv_head + 1) * size)
            columns = torch.arange(size) + head * size
            weights["model.layers.1.self_attn.o_proj.weight"][rows, columns] += _FETCH
        for layer in (0, 1):
            value = weights[f"model.layers.{layer}.self_attn.v_proj.weight"]
            value[range(CONTENT), range(CONTENT)] += 1


def _previous_token(
    weights: dict[str, Tensor], head: int, kv_head: int, size: int, theta: float
) -> None:
    """Keys are turned by one position against queries, so the score peaks one token back."""
    query = weights["model.layers.0.self_attn.q_proj.weight"]
    key = weights["model.layers.0.self_attn.k_proj.weight"]
    for pair in range(_POSITION_PAIRS):
        angle = theta ** (-2 * pair / size)
        query[head * size + pair, -1] += _POINTER
        key[kv_head * size + pair, -1] += _POINTER * math.cos(angle)
        key[kv_head * size + pair + size // 2, -1] += _POINTER * math.sin(angle)


def _same_token(weights: dict[str, Tensor], head: int, kv_head: int, size: int) -> None:
    """The present token is compared with each earlier token's predecessor."""
    query = weights["model.layers.1.self_attn.q_proj.weight"]
    key = weights["model.layers.1.self_attn.k_proj.weight"]
    for index in range(size):
        if index % (size // 2) >= _POSITION_PAIRS:
            source = kv_head * size + index
            query[head * size + index, source] += _MATCH
            if CONTENT + source < query.shape[1] - 1:
                key[kv_head * size + index, CONTENT + source] += _MATCH
