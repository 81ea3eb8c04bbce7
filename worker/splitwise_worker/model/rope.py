"""Rotary position embedding as tables, in the convention of Hugging Face checkpoints."""

import math

import torch
from torch import Tensor

from splitwise_worker.model.config import ModelConfig, RopeScaling


def cos_sin(config: ModelConfig, length: int) -> Tensor:
    """[length, head_dim] fp32: cosines in the first half of each row, sines in the second."""
    frequencies = _scaled(_frequencies(config), config.rope_scaling)
    angles = torch.outer(torch.arange(length, dtype=torch.float32), frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


def _frequencies(config: ModelConfig) -> Tensor:
    """[head_dim / 2]: theta ** (-2i / head_dim) (Su et al., RoFormer, 2021)."""
    steps = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float()
    return 1.0 / (config.rope_theta ** (steps / config.head_dim))


def _scaled(frequencies: Tensor, scaling: RopeScaling | None) -> Tensor:
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    # Llama 3.1: long wavelengths are divided by `factor`, short ones stay, those between mix.
    turns = scaling.original_length * frequencies / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    keep = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - keep) * frequencies / scaling.factor + keep * frequencies
