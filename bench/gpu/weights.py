"""Random weights for a model that nobody trained: the same numbers for the same seed and name."""

import zlib

import torch
from torch import Tensor

from splitwise_worker.model.config import ModelConfig


class RandomWeights:
    """A `Source` of weights. They are drawn on `drawn_on`: on a GPU for a model of real size."""

    def __init__(self, seed: int, dtype: torch.dtype, device: str, drawn_on: str = "cpu") -> None:
        self._seed = seed
        self._dtype = dtype
        self._device = device
        self._drawn_on = drawn_on

    def tensor(self, name: str, *shape: int) -> Tensor:
        """Scaled so that values neither grow nor vanish from layer to layer."""
        draw = torch.Generator(self._drawn_on)
        draw.manual_seed(self._seed + zlib.crc32(name.encode()))
        dtype = torch.float32 if self._drawn_on == "cpu" else self._dtype
        value = torch.randn(shape, generator=draw, device=self._drawn_on, dtype=dtype)
        if "norm" in name:
            value.mul_(0.1).add_(1)
        elif len(shape) == 2 and name != "embed_tokens.weight":
            value.mul_(shape[1] ** -0.5)
        return value.to(self._device, self._dtype)

    def stacked(self, names: list[str], rows: list[int], *columns: int) -> Tensor:
        """Several tensors as one, under each other."""
        return torch.cat([self.tensor(n, r, *columns) for n, r in zip(names, rows, strict=True)])


def llama(
    layers: int,
    width: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    mlp: int,
    vocabulary: int,
    architecture: str = "LlamaForCausalLM",
) -> ModelConfig:
    """The configuration of a model of this shape."""
    return ModelConfig(
        architecture=architecture,
        num_layers=layers,
        width=width,
        num_heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=mlp,
        vocab_size=vocabulary,
        norm_eps=1e-5,
        rope_theta=500_000.0,
        rope_scaling=None,
        max_positions=8192,
        qkv_bias=architecture == "Qwen2ForCausalLM",
        qk_norm=architecture == "Qwen3ForCausalLM",
        tied_embeddings=False,
        sliding_window=None,
        eos_token_ids=(),
    )
