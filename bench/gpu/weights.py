"""Random weights for a model that nobody trained: the same numbers for the same seed and name."""

import json
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

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
    """The configuration of a model of this shape, read as a checkpoint's is."""
    fields = {
        "architectures": [architecture],
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500_000.0,
        "max_position_embeddings": 8192,
    }
    with TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(fields), "utf-8")
        return ModelConfig.load(Path(directory))
