"""Every kernel compiles for every GPU family in every shape that the tile tables tell apart.

No GPU is needed, so this says nothing about speed; it does say that no register spills, that the
tiles fit the shared memory, that loads are wide and that Hopper's matrix instructions are used.
"""

import pytest
import torch
from torch import Tensor

from splitwise_worker.kernels.copy_blocks import plan_copy
from splitwise_worker.kernels.decode_attention import plan_decode, plan_merge
from splitwise_worker.kernels.prefill_attention import plan_prefill
from splitwise_worker.kernels.rms_norm import plan_rms_norm
from splitwise_worker.kernels.rope_kv_write import plan_rope
from splitwise_worker.kernels.silu_mul import plan_silu_mul
from splitwise_worker.kernels.triton_backend import INTERPRETED, Chip, Launch
from splitwise_worker.loaded import BLOCK_TOKENS
from tests.kernels.compiled import Compiled, compile_launch

pytestmark = pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set: nothing compiles")

KV_HEADS, BATCH, TOKENS, LAYERS = 8, 64, 4096, 32
SHARED_BYTES = {80: 99 << 10, 90: 227 << 10, 100: 227 << 10}
"""The most that a block may use; for ampere that of its small chips (8.6, 8.9), which share it."""

ARCHS = pytest.mark.parametrize("arch", SHARED_BYTES, ids=["ampere", "hopper", "blackwell"])
HEAD_DIMS = pytest.mark.parametrize("head_dim", [64, 128], ids=["d64", "d128"])
GROUPS = pytest.mark.parametrize("group", [1, 8], ids=["group1", "group8"])
BF16_AND_FP32 = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)


def meta(*size: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.empty(size, dtype=dtype, device="meta")


def integers(*size: int) -> Tensor:
    return meta(*size, dtype=torch.int32)


def kv(head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    pool = meta(1000, LAYERS, 2, BLOCK_TOKENS, KV_HEADS, head_dim, dtype=dtype)
    return pool[:, 3, 0], pool[:, 3, 1]


def prefill(arch: int, head_dim: int, group: int, dtype: torch.dtype) -> Launch:
    q = meta(TOKENS, KV_HEADS * group, head_dim, dtype=dtype)
    where = (integers(BATCH, 256), integers(BATCH + 1), integers(BATCH))
    return plan_prefill(q, q, *kv(head_dim, dtype), *where, 2048, 0.1, Chip(arch, 132))


def decode(arch: int, head_dim: int, group: int, splits: int, dtype: torch.dtype) -> Launch:
    q = meta(BATCH, KV_HEADS * group, head_dim, dtype=dtype)
    out, log_sums = q, None
    if splits > 1:
        out = meta(*q.shape[:2], splits, head_dim, dtype=torch.float32)
        log_sums = out[..., 0]
    where = (integers(BATCH, 256), integers(BATCH))
    chip = Chip(arch, 132)
    return plan_decode(out, log_sums, q, *kv(head_dim, dtype), *where, 0.1, splits, chip)


def assert_fits(compiled: Compiled, arch: int) -> None:
    assert compiled.stack_bytes == 0, f"{compiled.registers} registers, and the rest is spilled"
    assert compiled.shared_bytes <= SHARED_BYTES[arch]


@ARCHS
@HEAD_DIMS
@GROUPS
def test_prefill_attention(arch: int, head_dim: int, group: int) -> None:
    compiled = compile_launch(prefill(arch, head_dim, group, torch.bfloat16), arch)
    assert_fits(compiled, arch)
    assert compiled.wide_loads > 0
    matrix = {80: "mma.sync", 90: "wgmma.mma_async", 100: "tcgen05.mma"}[arch]
    assert matrix in compiled.ptx, f"no {matrix}: the tiles do not suit this chip's tensor cores"


@ARCHS
@HEAD_DIMS
@GROUPS
def test_decode_attention_over_several_programs(arch: int, head_dim: int, group: int) -> None:
    compiled = compile_launch(decode(arch, head_dim, group, 4, torch.bfloat16), arch)
    assert_fits(compiled, arch)
    assert compiled.wide_loads > 0
    assert "mma.sync" in compiled.ptx


@ARCHS
@HEAD_DIMS
def test_decode_attention_in_one_program(arch: int, head_dim: int) -> None:
    assert_fits(compile_launch(decode(arch, head_dim, 4, 1, torch.bfloat16), arch), arch)


@ARCHS
@HEAD_DIMS
def test_attention_in_exact_float32(arch: int, head_dim: int) -> None:
    for launch in (
        prefill(arch, head_dim, 4, torch.float32),
        decode(arch, head_dim, 4, 4, torch.float32),
    ):
        assert_fits(compile_launch(launch, arch), arch)


@ARCHS
@pytest.mark.parametrize("splits", [4, 64])
def test_merge_of_decode_parts(arch: int, splits: int) -> None:
    parts = meta(BATCH, 32, splits, 128, dtype=torch.float32)
    launch = plan_merge(meta(BATCH, 32, 128), parts, parts[..., 0])
    compiled = compile_launch(launch, arch)
    assert_fits(compiled, arch)
    assert compiled.wide_loads > 0


@ARCHS
@pytest.mark.parametrize("width", [576, 4096, 8192])
@pytest.mark.parametrize("adds", [False, True], ids=["alone", "with the residual"])
def test_rms_norm(arch: int, width: int, adds: bool) -> None:
    x = meta(TOKENS, width)
    compiled = compile_launch(plan_rms_norm(x, x, x if adds else None, meta(width), 1e-5), arch)
    assert_fits(compiled, arch)
    assert compiled.wide_loads > 0


@ARCHS
@HEAD_DIMS
@pytest.mark.parametrize("normed", [False, True], ids=["plain", "heads normalised first"])
def test_rope_kv_write(arch: int, head_dim: int, normed: bool) -> None:
    q = meta(TOKENS, 4 * KV_HEADS, head_dim)
    qkv = meta(TOKENS, 6 * KV_HEADS * head_dim)
    cos_sin = meta(8192, head_dim, dtype=torch.float32)
    tokens = meta(TOKENS, dtype=torch.int64)
    weight = meta(head_dim) if normed else None
    caches = kv(head_dim, torch.bfloat16)
    launch = plan_rope(q, qkv, cos_sin, tokens, tokens, *caches, weight, weight, 1e-5)
    compiled = compile_launch(launch, arch)
    assert_fits(compiled, arch)
    assert compiled.wide_loads > 0


@ARCHS
@pytest.mark.parametrize("kv_heads", [3, 8])
def test_copy_blocks(arch: int, kv_heads: int) -> None:
    pool = meta(1000, LAYERS, 2, BLOCK_TOKENS, kv_heads, 128)
    compiled = compile_launch(plan_copy(pool, pool, integers(40), 3), arch)
    assert_fits(compiled, arch)
    assert compiled.wide_loads > 0


@ARCHS
def test_silu_mul(arch: int) -> None:
    compiled = compile_launch(plan_silu_mul(meta(TOKENS, 14336), meta(TOKENS, 28672)), arch)
    assert_fits(compiled, arch)
    assert compiled.wide_loads > 0
