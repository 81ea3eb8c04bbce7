"""GPU kernels of one decoder layer: tensors of a batch and a layer's K/V views in, tensors out.

The model's GPU path calls them; `copy_blocks` brings to the host's pool what they wrote. Each file
holds a public function, the formula it must agree with (`<name>_torch`, also what runs on a
CPU), and the Triton kernel. `k_cache` and `v_cache` are one layer's views `[num_blocks,
block_tokens, kv_heads, head_dim]` of the KV pool, strided. Triton is optional: without it
everything imports and CPU tensors are served.
"""

from splitwise_worker.kernels.copy_blocks import copy_blocks
from splitwise_worker.kernels.decode_attention import decode_attention
from splitwise_worker.kernels.prefill_attention import prefill_attention
from splitwise_worker.kernels.rms_norm import add_rms_norm, rms_norm
from splitwise_worker.kernels.rope_kv_write import rope_kv_write
from splitwise_worker.kernels.silu_mul import silu_mul

__all__ = [
    "add_rms_norm",
    "copy_blocks",
    "decode_attention",
    "prefill_attention",
    "rms_norm",
    "rope_kv_write",
    "silu_mul",
]
