"""The only door to Triton: whether it is there, which tensors it serves, and how it is launched."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import torch
from torch import Tensor

from splitwise_core.errors import UserError

__all__ = [
    "INTERPRETED",
    "LOG2E",
    "Chip",
    "Launch",
    "chip_of",
    "dot_type",
    "jit",
    "jit_paged",
    "next_power_of_2",
    "serves",
    "tl",
]


try:
    import triton
    import triton.language as tl
except ModuleNotFoundError:  # a CPU image carries no Triton; kernels stay plain uncalled functions
    triton = tl = None


INTERPRETED: Final[bool] = triton is not None and bool(triton.knobs.runtime.interpret)
"""Kernels run in Python on CPU tensors (TRITON_INTERPRET=1). Fixed when a kernel is decorated."""

LOG2E: Final = 1.4426950408889634


def jit(kernel: Callable[..., None], **options: Any) -> Any:
    return kernel if triton is None else triton.jit(kernel, **options)


def jit_paged(kernel: Callable[..., None]) -> Any:
    """`jit` for a kernel that walks block tables, compiled once for tables of any width and start.

    Else a width of 1, of a multiple of 16 and of anything else would each compile, while serving;
    and so would the rows of a batch that begin at an address which is no multiple of 16.
    """
    return jit(
        kernel,
        do_not_specialize=["table_stride"],
        do_not_specialize_on_alignment=["block_tables", "cu_seqlens", "seq_lens"],
    )


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel launch as data, so that what tests compile without a GPU is what runs on one."""

    kernel: Any
    grid: tuple[int, ...]
    args: Mapping[str, Tensor | int | float | None]
    constants: Mapping[str, Any]
    num_warps: int = 4
    num_stages: int = 1

    def run(self) -> None:
        """Enqueues the kernel on the current stream. Reads nothing back."""
        self.kernel[self.grid](
            **self.args, **self.constants, num_warps=self.num_warps, num_stages=self.num_stages
        )


def serves(tensor: Tensor) -> bool:
    """Whether Triton runs on `tensor`. A CUDA tensor without Triton raises UserError."""
    if tensor.is_cuda and triton is None:
        raise UserError(
            "environment",
            where=f"device {tensor.device}",
            wrong="the GPU kernels need Triton, which is not installed",
            fix="install the extra: pip install 'splitwise[gpu]'",
        )
    return tensor.is_cuda or INTERPRETED


@dataclass(frozen=True, slots=True)
class Chip:
    """What tile choices depend on. `arch` is 90 for compute capability 9.0, 0 if interpreted."""

    arch: int
    multiprocessors: int


def chip_of(tensor: Tensor) -> Chip:
    """The chip that holds `tensor`. Cached per device; no synchronisation."""
    return Chip(0, 1) if INTERPRETED else _cuda_chip(tensor.device)


@lru_cache
def _cuda_chip(device: torch.device) -> Chip:
    facts = torch.cuda.get_device_properties(device)
    return Chip(facts.major * 10 + facts.minor, facts.multi_processor_count)


def dot_type(dtype: torch.dtype) -> Any:
    """The Triton type in which matrix products on `dtype` take their inputs.

    The interpreter holds bf16 as integers and multiplies those in silence: it gets float32.
    """
    if INTERPRETED and dtype is torch.bfloat16:
        return tl.float32
    return {
        torch.float32: tl.float32,
        torch.float16: tl.float16,
        torch.bfloat16: tl.bfloat16,
    }[dtype]


def next_power_of_2(n: int) -> int:
    """The least power of two that is at least `n`; 1 for `n <= 1`. Block shapes must be one."""
    return 1 << max(n - 1, 0).bit_length()
