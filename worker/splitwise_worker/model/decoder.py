"""The decoder of the Llama family: tokens and a KV pool in, logits out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from splitwise_core.errors import UserError
from splitwise_worker.model.batch import Batch
from splitwise_worker.model.config import ModelConfig
from splitwise_worker.model.linear import Linear, Weights, linear
from splitwise_worker.model.loader import Checkpoint
from splitwise_worker.model.ops_cpu import CpuOps
from splitwise_worker.model.ops_gpu import GpuOps
from splitwise_worker.model.rope import cos_sin


@dataclass(frozen=True, slots=True)
class _Layer:
    input_norm: Tensor
    qkv: Linear
    q_norm: Tensor | None
    k_norm: Tensor | None
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


class Source(Protocol):
    """Where weights come from: a checkpoint, or random numbers for a benchmark."""

    def tensor(self, name: str, *shape: int) -> Tensor:
        """The tensor `name`, in the dtype and on the device of the model."""

    def stacked(self, names: list[str], rows: list[int], *columns: int) -> Tensor:
        """Several tensors as one, under each other."""


class Decoder:
    """A loaded model. It owns weights, never K/V: the pool belongs to the caller."""

    def __init__(
        self,
        config: ModelConfig,
        embedding: Tensor,
        layers: list[_Layer],
        norm: Tensor,
        head: Linear,
        ops: CpuOps | GpuOps,
    ) -> None:
        self.config = config
        self._embedding = embedding
        self._layers = layers
        self._norm = norm
        self._head = head
        self._ops = ops

    @classmethod
    def load(
        cls,
        directory: Path,
        *,
        max_model_len: int,
        device: str = "cpu",
        weights: Weights = "float32",
    ) -> "Decoder":
        """Reads a checkpoint. Raises UserError naming what is missing, damaged or unsupported."""
        config = ModelConfig.load(directory)
        if config.sliding_window is not None and max_model_len > config.sliding_window:
            raise UserError(
                "model-unsupported",
                where="model.maxLength",
                wrong=f"attention beyond the model's window of {config.sliding_window} tokens "
                "is not implemented",
                fix=f"set model.maxLength to at most {config.sliding_window}",
            )
        dtype = torch.bfloat16 if weights == "bfloat16" else torch.float32
        table = cos_sin(config, max_model_len).to(device)
        # before the weights: what it refuses should not cost the reading of all of them
        ops = CpuOps(config, table) if device == "cpu" else GpuOps(config, table)
        with Checkpoint(directory, dtype, device) as checkpoint:
            return cls.assemble(config, checkpoint, ops, weights)

    @classmethod
    def assemble(
        cls, config: ModelConfig, source: Source, ops: CpuOps | GpuOps, weights: Weights
    ) -> "Decoder":
        """The model of `config` with the weights of `source`."""
        embedding = source.tensor("embed_tokens.weight", config.vocab_size, config.width)
        head = embedding
        if not config.tied_embeddings:
            head = source.tensor("lm_head.weight", config.vocab_size, config.width)
        return cls(
            config,
            embedding,
            [_layer(config, source, i, weights) for i in range(config.num_layers)],
            source.tensor("norm.weight", config.width),
            linear(head, None, weights),
            ops,
        )

    def forward(
        self, batch: Batch, kv: Tensor, on_layer: Callable[[int], None] | None = None
    ) -> Tensor:
        """Logits [B, vocab] in fp32 for the last token of each sequence; writes K/V into `kv`.

        `kv` is [num_blocks, num_layers, 2, block_tokens, kv_heads, head_dim]. `on_layer(i)` is
        called as soon as the K/V of layer i stand in the pool (on a GPU: are enqueued).
        """
        ops = self._ops
        frame = ops.frame(batch, kv)
        residual = self._embedding[batch.tokens]
        x = ops.rms_norm(residual, self._layers[0].input_norm)
        for i, layer in enumerate(self._layers):
            q = ops.write_kv(layer.qkv(x), kv, i, batch, frame, layer.q_norm, layer.k_norm)  # type: ignore[arg-type]
            if on_layer is not None:
                on_layer(i)
            x = layer.out(ops.attend(q, kv, i, batch, frame))  # type: ignore[arg-type]
            x = ops.add_rms_norm(x, residual, layer.mlp_norm)
            x = layer.down(ops.silu_mul(layer.gate_up(x)))
            x = ops.add_rms_norm(x, residual, self._next_norm(i))
        if batch.max_q > 1:
            x = x[batch.cu_seqlens[1:].long() - 1]
        return self._head(x).float()

    def _next_norm(self, layer: int) -> Tensor:
        """The norm that follows a layer: the next layer's own, or the last one."""
        last = layer + 1 == len(self._layers)
        return self._norm if last else self._layers[layer + 1].input_norm


def _layer(c: ModelConfig, source: Source, index: int, weights: Weights) -> _Layer:
    name = f"layers.{index}"
    attention, mlp = f"{name}.self_attn", f"{name}.mlp"
    heads = [c.num_heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.head_dim]

    def projection(names: list[str], rows: list[int], columns: int, has_bias: bool) -> Linear:
        weight = source.stacked([f"{n}.weight" for n in names], rows, columns)
        bias = source.stacked([f"{n}.bias" for n in names], rows) if has_bias else None
        return linear(weight, bias, weights)

    q_norm = k_norm = None
    if c.qk_norm:
        q_norm = source.tensor(f"{attention}.q_norm.weight", c.head_dim)
        k_norm = source.tensor(f"{attention}.k_norm.weight", c.head_dim)
    queries = [f"{attention}.{kind}_proj" for kind in "qkv"]
    gates = [f"{mlp}.gate_proj", f"{mlp}.up_proj"]
    return _Layer(
        input_norm=source.tensor(f"{name}.input_layernorm.weight", c.width),
        qkv=projection(queries, heads, c.width, c.qkv_bias),
        q_norm=q_norm,
        k_norm=k_norm,
        out=projection([f"{attention}.o_proj"], [c.width], heads[0], c.out_bias),
        mlp_norm=source.tensor(f"{name}.post_attention_layernorm.weight", c.width),
        gate_up=projection(gates, [c.mlp_width] * 2, c.width, c.mlp_bias),
        down=projection([f"{mlp}.down_proj"], [c.width], c.mlp_width, c.mlp_bias),
    )
