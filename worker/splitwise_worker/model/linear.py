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
"""Row counts for which oneDNN's packed weights beat MKL on AVX2: 2.6x at 8 rows (measured)."""


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
    """Packed by oneDNN; without AVX-512 kept a second time, as a matrix for one row and for many.

    With AVX-512 the packed form is the fastest at every size: 1.4x MKL's best at one row, 2.4x
    from 2 to 1,500 rows (measured, Zen 5, one and two threads). With AVX2 a single row, bound by
    memory, is read faster by MKL: where a layer has more outputs than inputs from the transposed
    matrix, 1.2 to 1.7 times as fast as from the plain one (measured, 576 to 49,152 outputs).
    """
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def run_packed(x: Tensor) -> Tensor:
        more = compiled_rows(len(x)) - len(x)
        padded = F.pad(x, (0, 0, 0, more)) if more else x
        out: Tensor = torch.ops.mkldnn._linear_pointwise(padded, packed, bias, "none", [], "")
        return out[: len(x)]

    if torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return run_packed
    outputs, inputs = weight.shape
    matrix = _in_huge_pages(weight.t()) if outputs >= inputs else _in_huge_pages(weight).t()

    def run(x: Tensor) -> Tensor:
        if len(x) in _PACKED_ROWS:
            return run_packed(x)
        return torch.mm(x, matrix) if bias is None else torch.addmm(bias, x, matrix)

    return run


def compiled_rows(rows: int) -> int:
    """So many rows are computed for `rows`, at most an eighth more: the others are zeros.

    oneDNN compiles code for each number of rows, and keeps it for 1,024 pairs of that and a matrix.
    Of any octave eight numbers are used, so that these are few and soon there.
    """
    unit = 1 << max(0, (rows - 1).bit_length() - 4)
    return -(-rows // unit) * unit


def _in_huge_pages(matrix: Tensor) -> Tensor:
    """A contiguous copy of `matrix` in huge pages: 6 % faster to read through (measured, AVX2)."""
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, matrix.numel() * matrix.element_size(), flags=private)
    with suppress(OSError):  # a kernel without huge pages reads it all the same
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=matrix.dtype).view(matrix.shape).copy_(matrix)
