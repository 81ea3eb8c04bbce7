"""What the model's shape asks for of a step: operations and bytes, before any kernel. Pure.

A multiplication and its addition are two operations. What is counted is what must be done: each
weight is read once a step, and each K/V that a token attends to once a step and sequence. Element
by element work is left out: it is below a hundredth of the products.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import mul

from splitwise_worker.model.config import ModelConfig


@dataclass(frozen=True, slots=True)
class ModelWork:
    """Counts for one model.

    `flop_per_token`: of all layers' products. `head_flop`: of the product with the vocabulary,
    which one token of each sequence goes through. `attention_flop`: for a token and one that it
    attends to.
    """

    flop_per_token: int
    head_flop: int
    attention_flop: int
    weight_bytes: int
    kv_token_bytes: int
    window: int | None

    @classmethod
    def of(cls, model: ModelConfig, weight_bytes: float, kv_token_bytes: int) -> "ModelWork":
        """For weights of `weight_bytes` each, and so many bytes of K/V for a token."""
        queries, keys = model.num_heads * model.head_dim, model.kv_heads * model.head_dim
        layer = model.width * (2 * queries + 2 * keys + 3 * model.mlp_width)
        head = model.width * model.vocab_size
        return cls(
            flop_per_token=2 * model.num_layers * layer,
            head_flop=2 * head,
            attention_flop=4 * model.num_layers * queries,
            weight_bytes=int(weight_bytes * (model.num_layers * layer + head)),
            kv_token_bytes=kv_token_bytes,
            window=model.sliding_window,
        )

    def step(self, tokens: Sequence[int], contexts: Iterable[int]) -> tuple[float, float]:
        """Operations, and bytes read, of a step.

        Of each sequence: the `tokens` that are computed, and the `contexts` of the last of them,
        which are all that stand in its KV then.
        """
        ends, computed = list(contexts), sum(tokens)
        if self.window is None:
            # A token sees all before it and itself: of t tokens that end at e, t * e less 0, 1, ...
            seen = sum(map(mul, tokens, ends)) - (sum(map(mul, tokens, tokens)) - computed) / 2
            read = sum(ends)
        else:
            both = list(zip(tokens, ends, strict=True))
            seen = sum(t * min(e - (t - 1) / 2, self.window) for t, e in both)
            read = sum(min(e, self.window + t) for t, e in both)
        flop = computed * self.flop_per_token + len(ends) * self.head_flop
        return flop + seen * self.attention_flop, self.weight_bytes + read * self.kv_token_bytes
