"""`python -m splitwise_worker.random_model DIR --preset NAME`: random weights in a real shape.

For measuring speed where no checkpoint can be had. The tokenizer is the tiny model's, so that text
goes in and comes out. The answers mean nothing, but each of their tokens is text by itself: others
would be held back at the router, and a client would take that wait for the model's time.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file
from torch import Tensor

from splitwise_core.errors import UserError
from splitwise_worker.tiny.vocabulary import SHOWN, VOCABULARY, write_tokenizer

FAINT: Final = 0.1
"""Size of the head's weights for tokens that are no text by themselves, against the others'.
Of these there are hundreds, and one of them is always likelier. Not 0: where the head is the
embedding too, such a token is an input like any other."""


@dataclass(frozen=True, slots=True)
class Preset:
    """Sizes as in the published config.json of the model that gave its name."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    length: int
    theta: float
    tied: bool
    architecture: str = "LlamaForCausalLM"

    def config(self) -> dict[str, Any]:
        """config.json for this shape."""
        return {
            "architectures": [self.architecture],
            "model_type": self.architecture.removesuffix("ForCausalLM").lower(),
            "hidden_act": "silu",
            "hidden_size": self.width,
            "intermediate_size": self.mlp,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "max_position_embeddings": self.length,
            "rms_norm_eps": 1e-5,
            "rope_theta": self.theta,
            "tie_word_embeddings": self.tied,
            "vocab_size": self.vocabulary,
            "torch_dtype": "float32",
        }


PRESETS: Final = {
    "smollm2-135m": Preset(30, 576, 9, 3, 64, 1536, 49152, 8192, 100_000.0, True),
    "tinyllama-1.1b": Preset(22, 2048, 32, 4, 64, 5632, 32000, 2048, 10_000.0, False),
    "llama-3-8b": Preset(32, 4096, 32, 8, 128, 14336, 128256, 8192, 500_000.0, False),
    "qwen3-0.6b": Preset(
        28, 1024, 16, 8, 128, 3072, 151936, 40960, 1_000_000.0, True, "Qwen3ForCausalLM"
    ),
}
"""Shapes of published models, from their own config.json files."""


def write(directory: Path, preset: str, seed: int) -> None:
    """Writes a checkpoint to `directory`. Raises UserError for an unknown preset."""
    if preset not in PRESETS:
        raise UserError(
            "unknown-preset",
            where="--preset",
            wrong=f"{preset!r} is not known",
            fix=f"use one of {', '.join(PRESETS)}",
        )
    write_shape(directory, PRESETS[preset], seed)


def write_shape(
    directory: Path,
    shape: Preset,
    seed: int,
    dtype: torch.dtype = torch.float32,
    drawn_on: str = "cpu",
) -> None:
    """Writes a checkpoint of any shape to `directory`; its vocabulary holds the tiny model's.

    The weights are the same for the same seed, `dtype` and device they are drawn on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator(drawn_on).manual_seed(seed)
    tensors = {name: value.to(dtype).cpu() for name, value in _tensors(shape, draw)}
    assert shape.vocabulary >= len(VOCABULARY)
    head = tensors["model.embed_tokens.weight" if shape.tied else "lm_head.weight"]
    head[[token for token in range(shape.vocabulary) if token not in SHOWN]] *= FAINT
    write_tokenizer(directory, shape.length)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.dumps(shape.config(), indent=1)
    (directory / "config.json").write_text(config + "\n", "utf-8")


def _tensors(shape: Preset, draw: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=draw, device=draw.device) * 0.02

    yield "model.embed_tokens.weight", normal(shape.vocabulary, shape.width)
    if not shape.tied:
        yield "lm_head.weight", normal(shape.vocabulary, shape.width)
    yield "model.norm.weight", torch.ones(shape.width)
    q_width, kv_width = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    for i in range(shape.layers):
        layer = f"model.layers.{i}"
        yield f"{layer}.self_attn.q_proj.weight", normal(q_width, shape.width)
        yield f"{layer}.self_attn.k_proj.weight", normal(kv_width, shape.width)
        yield f"{layer}.self_attn.v_proj.weight", normal(kv_width, shape.width)
        yield f"{layer}.self_attn.o_proj.weight", normal(shape.width, q_width)
        if shape.architecture.startswith("Qwen3"):
            yield f"{layer}.self_attn.q_norm.weight", torch.ones(shape.head_dim)
            yield f"{layer}.self_attn.k_norm.weight", torch.ones(shape.head_dim)
        yield f"{layer}.mlp.gate_proj.weight", normal(shape.mlp, shape.width)
        yield f"{layer}.mlp.up_proj.weight", normal(shape.mlp, shape.width)
        yield f"{layer}.mlp.down_proj.weight", normal(shape.width, shape.mlp)
        yield f"{layer}.input_layernorm.weight", torch.ones(shape.width)
        yield f"{layer}.post_attention_layernorm.weight", torch.ones(shape.width)


def main() -> int:
    """Exit status 2 for what the reader can fix."""
    parser = argparse.ArgumentParser(prog="splitwise model random")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--preset", required=True)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    try:
        write(asked.directory, asked.preset, asked.seed)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stderr.write(f"wrote {asked.directory}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
