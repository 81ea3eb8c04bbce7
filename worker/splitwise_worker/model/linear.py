"""Linear layers in the form that is fastest for a device, a weight format and a batch size."""

import mmap
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Linear = Callable[[Tensor], Tensor]
"""[rows, in] -> [rows, out]."""

Weights = Literal["float32", "float16", "int8", "bfloat16"]

_PACKED_ROWS: Final = range(2, 65)
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
        # 7 bits of x: with 8, sums saturate where there is no VNNI (measured, AVX2: 21 % error).
        return lambda x: torch.ops.quantized.linear_dynamic(x, packed, True)
    return _float32(weight, bias)


def _float32(weight: Tensor, bias: Tensor | None) -> Linear:
    """Keeps the weight twice: packed for a batch of rows, as a matrix for one row and for many.

    A single row is bound by memory. Where a layer has more outputs than inputs, MKL reads the
    transposed matrix 1.2 to 1.7 times as fast (measured, AVX2, 576 to 49,152 outputs), elsewhere
    the plain one.
    """
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
    outputs, inputs = weight.shape
    matrix = _in_huge_pages(weight.t()) if outputs >= inputs else _in_huge_pages(weight).t()

    def run(x: Tensor) -> Tensor:
        if len(x) in _PACKED_ROWS:
            out: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
            return out
        return torch.mm(x, matrix) if bias is None else torch.addmm(bias, x, matrix)

    return run


def _in_huge_pages(matrix: Tensor) -> Tensor:
    """A contiguous copy of `matrix` in huge pages: 6 % faster to read through (measured, AVX2)."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, matrix.numel() * matrix.element_size(), flags=private)
    with suppress(OSError):  # a kernel without huge pages reads it all the same
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=matrix.dtype).view(matrix.shape).copy_(matrix)
