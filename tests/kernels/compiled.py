"""A launch compiled for a GPU that need not be there, with what its machine code uses."""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from splitwise_worker.kernels.triton_backend import Launch

POINTERS = {
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
ALIGNED = [["tt.divisibility", 16]]  # what a launch tells the compiler of multiples of 16

WIDE_LOAD = re.compile(r"cp\.async\.cg\.shared\.global.*0x10|ld\.global[\w.]*\.(v4\.b32|v2\.b64)")
"""16 bytes at once: an asynchronous copy to shared memory, or a load to four registers."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the assembler says of a kernel. `stack_bytes` above 0 are registers spilled."""

    ptx: str
    registers: int
    stack_bytes: int
    shared_bytes: int

    @property
    def wide_loads(self) -> int:
        """How many instructions load 16 bytes a thread from global memory."""
        return len(WIDE_LOAD.findall(self.ptx))


def compile_launch(launch: Launch, arch: int) -> Compiled:
    """`launch` compiled as its first run on compute capability `arch` would. Needs no GPU.

    The tensors may be on the meta device; pointers are taken to be aligned, as they are on a GPU.
    """
    signature: dict[str, str] = {}
    constants: dict[str, Any] = {}
    attributes: dict[tuple[int], list[list[Any]]] = {}
    for index, parameter in enumerate(launch.kernel.params):
        name = parameter.name
        value = launch.constants[name] if name in launch.constants else launch.args[name]
        signature[name] = "constexpr" if name in launch.constants else _type(value)
        if signature[name] == "constexpr":
            constants[name] = value
        elif _is_aligned(value) and not (
            parameter.do_not_specialize or parameter.do_not_specialize_on_alignment
        ):
            attributes[index,] = ALIGNED
    compiled = triton.compile(
        ASTSource(launch.kernel, signature, constants, attributes),
        target=GPUTarget("cuda", arch, 32),
        options={"num_warps": launch.num_warps, "num_stages": launch.num_stages},
    )
    registers, stack_bytes = _usage(compiled.asm["cubin"])
    return Compiled(compiled.asm["ptx"], registers, stack_bytes, compiled.metadata.shared)


def _type(value: Tensor | int | float | None) -> str:
    if isinstance(value, Tensor):
        return POINTERS[value.dtype]
    if isinstance(value, float):
        return "fp32"
    if value is None or value == 1:  # a launch compiles both in
        return "constexpr"
    return "i32" if abs(value) < 2**31 else "i64"


def _is_aligned(value: Tensor | int | float | None) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, int) and value % 16 == 0)


def _usage(cubin: bytes) -> tuple[int, int]:
    """Registers and stack bytes of a thread."""
    os.chmod(CUOBJDUMP, CUOBJDUMP.stat().st_mode | 0o111)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        printed = subprocess.run(
            [CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", printed)
    assert found, printed
    return int(found[1]), int(found[2])
