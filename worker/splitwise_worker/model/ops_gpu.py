"""The parts of a layer that are not linear, for a GPU: our Triton kernels over block tables."""

from typing import Final

from torch import Tensor, cat

from splitwise_core.errors import UserError
from splitwise_worker import kernels
from splitwise_worker.kernels.tiles import prefill_tiles
from splitwise_worker.kernels.triton_backend import chip_of, serves
from splitwise_worker.model.batch import Batch
from splitwise_worker.model.config import ModelConfig

HEAD_DIMS: Final = (16, 32, 64, 128)
"""A tile is a power of two wide, and the tile tables end at 128."""


class GpuOps:
    """The same operations as `CpuOps`, as kernels.

    Raises UserError for a model or a chip that the kernels do not serve.
    """

    def __init__(self, config: ModelConfig, cos_sin: Tensor) -> None:
        if config.head_dim not in HEAD_DIMS:
            raise UserError(
                "model-unsupported",
                where="config.json: head_dim",
                wrong=f"heads of {config.head_dim} values are not implemented on a GPU",
                fix=f"use a model with one of {HEAD_DIMS}, or run this worker on the CPU",
            )
        if serves(cos_sin):
            prefill_tiles(chip_of(cos_sin).arch, config.head_dim, cos_sin.element_size())
        self._config = config
        self._cos_sin = cos_sin
        self._scale = config.head_dim**-0.5

    def frame(self, batch: Batch, kv: Tensor) -> None:
        """The kernels read all they need from the batch."""

    def rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """x / rms(x) * weight."""
        return kernels.rms_norm(x, weight, self._config.norm_eps)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
        """Adds x to the residual, in place, and norms that."""
        return kernels.add_rms_norm(x, residual, weight, self._config.norm_eps)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up for [T, 2F] -> [T, F]."""
        return kernels.silu_mul(gate_up)

    def write_kv(
        self,
        qkv: Tensor,
        kv: Tensor,
        layer: int,
        batch: Batch,
        frame: None,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
    ) -> Tensor:
        """Rotates q and k, writes k and v into the pool, returns q [T, heads, head_dim]."""
        return kernels.rope_kv_write(
            qkv,
            self._cos_sin,
            batch.positions,
            batch.slots,
            kv[:, layer, 0],
            kv[:, layer, 1],
            self._config.num_heads,
            q_norm,
            k_norm,
            self._config.norm_eps,
        )

    def attend(self, q: Tensor, kv: Tensor, layer: int, batch: Batch, frame: None) -> Tensor:
        """Attention of each row over its own sequence: [T, heads * head_dim].

        Stretches of prompts and single rows have a kernel each: one that is made for many rows of
        a sequence wastes most of a tile on one, and does not split its K/V.
        """
        k, v = kv[:, layer, 0], kv[:, layer, 1]
        first, rows = batch.stretches, batch.stretch_rows
        parts: list[Tensor] = []
        if first:
            parts.append(
                kernels.prefill_attention(
                    q[:rows],
                    k,
                    v,
                    batch.block_tables[:first],
                    batch.cu_seqlens[: first + 1],
                    batch.seq_lens[:first],
                    batch.max_q,
                    self._scale,
                )
            )
        if rows < len(q):
            tables, lens = batch.block_tables[first:], batch.seq_lens[first:]
            parts.append(kernels.decode_attention(q[rows:], k, v, tables, lens, self._scale))
        out = parts[0] if len(parts) == 1 else cat(parts)
        return out.view(len(q), -1)
