"""The tiny Llama as a differentiable function over tensors that bear their checkpoint names."""

from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from splitwise_worker.tiny.lookback import lay_out
from splitwise_worker.tiny.vocabulary import END, VOCABULARY

EPS: Final = 1e-5
THETA: Final = 1e9
"""Most pairs hardly turn over a whole context, so that content compares at any distance."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network."""

    layers: int = 2
    width: int = 128
    heads: int = 4
    kv_heads: int = 2
    mlp: int = 256
    length: int = 2048
    vocabulary: int = len(VOCABULARY)

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    def config(self) -> dict[str, Any]:
        """config.json for this shape."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.width,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.length,
            "rms_norm_eps": EPS,
            "rope_theta": THETA,
            "tie_word_embeddings": True,
            "vocab_size": self.vocabulary,
            "eos_token_id": VOCABULARY[END],
            "torch_dtype": "float32",
        }


Weights = dict[str, Tensor]


def initial(shape: Shape, seed: int) -> Weights:
    """Random weights that require gradients."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*size: int, scale: float) -> Tensor:
        return (torch.randn(*size, generator=draw) * scale).requires_grad_()

    width, kv_width = shape.width, shape.kv_heads * shape.head_dim
    weights = {
        "model.embed_tokens.weight": normal(shape.vocabulary, width, scale=0.02),
        "model.norm.weight": torch.ones(width, requires_grad=True),
    }
    for i in range(shape.layers):
        layer = f"model.layers.{i}"
        sizes = {
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (kv_width, width),
            "self_attn.v_proj": (kv_width, width),
            "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (shape.mlp, width),
            "mlp.up_proj": (shape.mlp, width),
            "mlp.down_proj": (width, shape.mlp),
        }
        for name, size in sizes.items():
            weights[f"{layer}.{name}.weight"] = normal(*size, scale=0.02)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{layer}.{name}.weight"] = torch.ones(width, requires_grad=True)
    lay_out(weights, shape.heads, shape.kv_heads, THETA)
    return weights


def hidden(weights: Weights, shape: Shape, tokens: Tensor) -> Tensor:
    """The last hidden states [B, T, width] for tokens [B, T]."""
    rows, length = tokens.shape
    cos, sin = _rope(shape, length)
    x = F.embedding(tokens, weights["model.embed_tokens.weight"])
    for i in range(shape.layers):
        layer = f"model.layers.{i}."

        def project(value: Tensor, name: str, layer: str = layer) -> Tensor:
            return F.linear(value, weights[f"{layer}{name}.weight"])

        def norm(value: Tensor, name: str, layer: str = layer) -> Tensor:
            return F.rms_norm(value, (shape.width,), weights[f"{layer}{name}.weight"], EPS)

        h = norm(x, "input_layernorm")
        q, k, v = (
            project(h, f"self_attn.{kind}_proj")
            .view(rows, length, -1, shape.head_dim)
            .transpose(1, 2)
            for kind in "qkv"
        )
        group = shape.heads // shape.kv_heads
        k, v = (_rotate(k, cos, sin).repeat_interleave(group, 1), v.repeat_interleave(group, 1))
        mixed = F.scaled_dot_product_attention(_rotate(q, cos, sin), k, v, is_causal=True)
        x = x + project(mixed.transpose(1, 2).reshape(rows, length, -1), "self_attn.o_proj")
        h = norm(x, "post_attention_layernorm")
        gated = F.silu(project(h, "mlp.gate_proj")) * project(h, "mlp.up_proj")
        x = x + project(gated, "mlp.down_proj")
    return F.rms_norm(x, (shape.width,), weights["model.norm.weight"], EPS)


def _rope(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    steps = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
    angles = torch.outer(torch.arange(length).float(), THETA**-steps)
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
