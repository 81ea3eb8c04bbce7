"""Linear layers in the form that is fastest for a device, a weight format and a batch size."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[Tensor], Tensor]
"""[rows, in] -> [rows, out]."""

Weights = Literal["float32", "float16", "int8", "bfloat16"]

_PACKED_ROWS = range(2, 65)
"""Row counts for which oneDNN's packed weights beat MKL: 2.6x at 8 rows (measured, AVX2)."""


def linear(weight: Tensor, bias: Tensor | None, weights: Weights) -> Linear:
    """A linear layer with `weight` [out, in]. The quantized forms exist on x86 CPUs only."""
    if weight.device.type != "cpu" or weights == "bfloat16":
        return lambda x: F.linear(x, weight, bias)
    if weights == "float16":
        half = torch.ops.quantized.linear_prepack_fp16(weight, bias)
        return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, half)
    if weights == "int8":
        scale = weight.abs().amax(1).clamp(min=1e-8) / 127
        zero = torch.zeros(len(weight), dtype=torch.int64)
        rows = torch.quantize_per_channel(weight, scale.double(), zero, 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(rows, bias)
        return lambda x: torch.ops.quantized.linear_dynamic(x, packed)
    return _float32(weight, bias)


def _float32(weight: Tensor, bias: Tensor | None) -> Linear:
    """Keeps the weight twice: plain for one row and for many, packed for a batch of rows."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def run(x: Tensor) -> Tensor:
        if len(x) in _PACKED_ROWS:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
            return out
        return F.linear(x, weight, bias)

    return run
