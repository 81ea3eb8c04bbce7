"""The parts of a layer that are not linear, for a CPU: K/V are gathered token by token.

A token's K (or V) in one layer is a row of the pool. SDPA needs the rows of a sequence side by
side, so each layer copies them together first: 1.0 to 1.5 times the time of attention over K/V that
lie so anyway, and blocks can be shared between sequences.
"""

import math
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from splitwise_worker.model.batch import Batch
from splitwise_worker.model.config import ModelConfig

BATCHED_BYTES: Final = 2 << 20
"""K/V of a layer up to which sequences that decode attend together. Measured with 8 of them, one
thread: 1.3 to 1.9 times as fast up to here, where a layer fits a core's cache, and slower from
three times as much on."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What all layers of one pass share. Rows are those of the pool's first layer."""

    cos: Tensor  # [T, 1, head_dim]
    sin: Tensor  # [T, 1, head_dim], the first half negated
    rows: Tensor  # [pool rows, kv_heads * head_dim]: the pool, K and V of a token apart
    layer_rows: int  # from a layer of a block to its next one
    written: tuple[Tensor, Tensor]  # [T]: where K and V of the pass's tokens go
    seen: tuple[Tensor, ...]  # [P or B][2 * tokens], K then V, of sequences that attend alone
    together: Tensor | None  # [2 * D * most tokens]: K then V of the single rows, when batched
    mask: Tensor | None  # [D, 1, 1, most tokens], added to their scores

    def layer(self, index: int) -> Tensor:
        """The pool as rows, from where rows of the first layer mean layer `index`."""
        return self.rows[index * self.layer_rows :]


class CpuOps:
    """Torch operations; [T, ...] rows are those of the batch."""

    def __init__(self, config: ModelConfig, cos_sin: Tensor) -> None:
        self._config = config
        self._floors = {
            width: torch.tensor(math.sqrt(width * config.norm_eps))
            for width in (config.width, config.head_dim)
        }
        cos, sin = cos_sin.chunk(2, -1)
        self._cos = torch.cat((cos, cos), -1)[:, None]
        self._sin = torch.cat((-sin, sin), -1)[:, None]

    def frame(self, batch: Batch, kv: Tensor) -> Frame:
        """Looks up once what every layer needs."""
        layers, block_tokens = kv.shape[1], kv.shape[3]
        rows = kv.view(-1, kv.shape[4] * kv.shape[5])
        block_rows = layers * 2 * block_tokens
        keys = batch.slots // block_tokens * block_rows + batch.slots % block_tokens
        position = torch.arange(max(batch.kv_lens))
        there = position < batch.seq_lens[:, None]  # [B, most tokens]
        # what is not there is read as the first token, which is finite, and weighs nothing
        at = position * there
        seen_keys = batch.block_tables.long().gather(1, at // block_tokens) * block_rows
        seen_keys += at % block_tokens
        single = batch.kv_lens[batch.stretches :]
        padded = len(single) * max(single, default=0)
        row_bytes = rows.shape[1] * rows.element_size()
        is_batched = padded > 0 and padded * 2 * row_bytes <= BATCHED_BYTES
        alone = batch.stretches if is_batched else len(batch.kv_lens)
        together = mask = None
        if is_batched:
            most = max(single)
            theirs = seen_keys[alone:, :most]
            together = torch.cat((theirs, theirs + block_tokens)).flatten()
            mask = there[alone:, :most].float().log()[:, None, None]  # 0 or -infinity
        return Frame(
            cos=self._cos[batch.positions],
            sin=self._sin[batch.positions],
            rows=rows,
            layer_rows=2 * block_tokens,
            written=(keys, keys + block_tokens),
            seen=tuple(
                torch.cat((own[:tokens], own[:tokens] + block_tokens))
                for own, tokens in zip(seen_keys[:alone], batch.kv_lens, strict=False)
            ),
            together=together,
            mask=mask,
        )

    def rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """x / sqrt(mean(x**2) + eps) * weight, from the length of x: faster than `F.rms_norm`.

        sqrt(mean + eps) is hypot(length, sqrt(width * eps)) / sqrt(width).
        """
        width = x.shape[-1]
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).hypot_(self._floors[width])
        return torch.div(x, length.mul_(width**-0.5)).mul_(weight)

    def add_rms_norm(self, x: Tensor, residual: Tensor, weight: Tensor) -> Tensor:
        """Adds x to the residual, in place, and norms that."""
        return self.rms_norm(residual.add_(x), weight)

    def silu_mul(self, gate_up: Tensor) -> Tensor:
        """silu(gate) * up for [T, 2F] -> [T, F]."""
        gate, up = gate_up.chunk(2, -1)  # nobody else reads them: computed in place
        return F.silu(gate, inplace=True).mul_(up)

    def write_kv(
        self,
        qkv: Tensor,
        kv: Tensor,
        layer: int,
        batch: Batch,
        frame: Frame,
        q_norm: Tensor | None,
        k_norm: Tensor | None,
    ) -> Tensor:
        """Rotates q and k, writes k and v into the pool, returns q [T, heads, head_dim]."""
        c = self._config
        qkv = qkv.view(len(qkv), -1, c.head_dim)
        qk = qkv[:, : c.num_heads + c.kv_heads]
        if q_norm is not None and k_norm is not None:
            q, k = qk.split([c.num_heads, c.kv_heads], dim=1)
            qk.copy_(torch.cat((self.rms_norm(q, q_norm), self.rms_norm(k, k_norm)), dim=1))
        turned = qk.roll(c.head_dim // 2, -1).mul_(frame.sin)
        torch.addcmul(turned, qk, frame.cos, out=qk)
        layer_rows = frame.layer(layer)
        for half, written in zip(qkv[:, c.num_heads :].chunk(2, 1), frame.written, strict=True):
            layer_rows.index_copy_(0, written, half.flatten(1))
        return qkv[:, : c.num_heads]

    def attend(self, q: Tensor, kv: Tensor, layer: int, batch: Batch, frame: Frame) -> Tensor:
        """Attention of each row over its own sequence: [T, heads * head_dim]."""
        rows: list[Tensor] = []
        start = 0
        for seen, length in zip(frame.seen, batch.q_lens, strict=False):
            k, v = self._seen(frame, seen, layer, 1)
            own = q[start : start + length]
            rows.append(self._single_rows(own, k, v) if length == 1 else self._rows(own, k, v))
            start += length
        if frame.together is not None:
            single = q[start:]
            k, v = self._seen(frame, frame.together, layer, len(single))
            rows.append(self._single_rows(single, k, v, frame.mask))
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _seen(self, frame: Frame, seen: Tensor, layer: int, count: int) -> tuple[Tensor, ...]:
        """K and V of `count` sequences side by side: [count, kv_heads, tokens, head_dim]."""
        found = frame.layer(layer).index_select(0, seen)
        shape = (2, count, -1, self._config.kv_heads, self._config.head_dim)
        return found.view(shape).transpose(2, 3).unbind(0)

    def _single_rows(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """One row for each sequence.

        Heads that share a key head become rows of it: 2 to 3 times faster than `enable_gqa`.
        """
        c = self._config
        grouped = q.view(len(q), c.kv_heads, -1, c.head_dim)
        return F.scaled_dot_product_attention(grouped, k, v, attn_mask=mask).view(len(q), -1)

    def _rows(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """A stretch of a prompt: row i sees all that stood before the stretch, and i + 1 of it."""
        length, seen = len(q), k.shape[2]
        mask = None
        if seen > length:
            positions = torch.arange(seen - length, seen)
            mask = torch.arange(seen) <= positions[:, None]
        out = F.scaled_dot_product_attention(
            q.transpose(0, 1)[None],
            k,
            v,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=self._config.num_heads != self._config.kv_heads,
        )
        return out[0].transpose(0, 1).reshape(length, -1)
