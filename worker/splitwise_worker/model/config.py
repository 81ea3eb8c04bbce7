"""A checkpoint's config.json and generation_config.json, read and checked into one record."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitwise_core.errors import UserError

ARCHITECTURES: Final = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)

_DEFAULT_WINDOW: Final = 4096
"""What transformers takes for a sliding window whose size is left out."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's scaling of rotary frequencies; `linear` divides all of them by `factor`."""

    kind: str  # "linear" or "llama3"
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a Llama-family decoder and the few things in which its members differ."""

    architecture: str
    num_layers: int
    width: int
    num_heads: int
    kv_heads: int
    head_dim: int
    mlp_width: int
    vocab_size: int
    norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    max_positions: int
    qkv_bias: bool
    qk_norm: bool
    tied_embeddings: bool
    sliding_window: int | None
    eos_token_ids: tuple[int, ...]
    out_bias: bool = False
    mlp_bias: bool = False

    @classmethod
    def load(cls, directory: Path) -> "ModelConfig":
        """The record for a directory in Hugging Face format. Raises UserError naming the field."""
        if not directory.is_dir():
            raise UserError(
                "model-missing",
                where=str(directory),
                wrong="there is no such directory",
                fix="set model.path to a directory with config.json and *.safetensors; "
                "`splitwise model tiny DIR` writes a small one",
            )
        fields = _Fields(directory / "config.json", _read(directory / "config.json", required=True))
        generation = _read(directory / "generation_config.json", required=False)
        return _config(fields, generation)


@dataclass(frozen=True, slots=True)
class _Fields:
    """config.json with typed access; every failure names the file and the field."""

    path: Path
    values: Mapping[str, Any]

    def number(self, name: str, default: float | None = None) -> float:
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.error(name, f"is {value!r}, not a number above 0")
        return value

    def count(self, name: str, default: int | None = None) -> int:
        value = self.number(name, default)
        if not isinstance(value, int):
            raise self.error(name, f"is {value!r}, not a whole number")
        return value

    def on(self, name: str) -> bool:
        return bool(self.values.get(name, False))

    def error(self, name: str, wrong: str, code: str = "model-corrupt") -> UserError:
        return UserError(
            code,
            where=f"{self.path}: {name}",
            wrong=wrong,
            fix="use a checkpoint of " + ", ".join(ARCHITECTURES)
            if code == "model-unsupported"
            else "restore the checkpoint's own config.json",
        )


def _config(fields: _Fields, generation: Mapping[str, Any]) -> ModelConfig:
    named = fields.values.get("architectures")
    architecture = named[0] if isinstance(named, list) and named else named
    if architecture not in ARCHITECTURES:
        wrong = f"{architecture!r} is not implemented"
        raise fields.error("architectures", wrong, "model-unsupported")
    if fields.values.get("hidden_act", "silu") != "silu":
        wrong = f"{fields.values['hidden_act']!r} is not implemented, only 'silu' is"
        raise fields.error("hidden_act", wrong, "model-unsupported")
    width, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    kv_heads = fields.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise fields.error("num_key_value_heads", f"{kv_heads} does not divide {heads} heads")
    head_dim = fields.count("head_dim", width // heads)
    if head_dim % 2:
        raise fields.error("head_dim", f"{head_dim} is odd: rotary embedding turns pairs")
    has_biases = fields.on("attention_bias") and not architecture.startswith("Mistral")
    qwen2 = architecture.startswith("Qwen2")
    return ModelConfig(
        architecture=architecture,
        num_layers=fields.count("num_hidden_layers"),
        width=width,
        num_heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        mlp_width=fields.count("intermediate_size"),
        vocab_size=fields.count("vocab_size"),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(fields),
        rope_scaling=_rope_scaling(fields),
        max_positions=fields.count("max_position_embeddings"),
        qkv_bias=qwen2 or has_biases,
        out_bias=has_biases and not qwen2,
        mlp_bias=fields.on("mlp_bias") and architecture.startswith("Llama"),
        qk_norm=architecture.startswith("Qwen3"),
        tied_embeddings=fields.on("tie_word_embeddings"),
        sliding_window=_sliding_window(fields, architecture),
        eos_token_ids=_eos(fields, generation),
    )


def _sliding_window(fields: _Fields, architecture: str) -> int | None:
    """Mistral's is on unless it is null, those of the others are off unless switched on."""
    if not (architecture.startswith("Mistral") or fields.on("use_sliding_window")):
        return None
    if fields.values.get("sliding_window", _DEFAULT_WINDOW) is None:
        return None
    return fields.count("sliding_window", _DEFAULT_WINDOW)


def _eos(fields: _Fields, generation: Mapping[str, Any]) -> tuple[int, ...]:
    """One id or several; those of generation_config.json replace those of config.json."""
    eos = generation.get("eos_token_id", fields.values.get("eos_token_id"))
    ids = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in ids):
        raise fields.error("eos_token_id", f"is {eos!r}, not a token id or a list of them")
    return tuple(ids)


def _rope(fields: _Fields) -> Mapping[str, Any]:
    """transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`."""
    rope = fields.values.get("rope_parameters") or fields.values.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise fields.error("rope_scaling", f"is {rope!r}, not an object")
    part = rope.get("partial_rotary_factor", fields.values.get("partial_rotary_factor", 1))
    if part != 1:
        wrong = f"{part!r} is not implemented: rotary embedding turns whole heads"
        raise fields.error("partial_rotary_factor", wrong, "model-unsupported")
    return rope


def _rope_theta(fields: _Fields) -> float:
    own = _Fields(fields.path, _rope(fields))
    return own.number("rope_theta", fields.number("rope_theta", 10_000.0))


def _rope_scaling(fields: _Fields) -> RopeScaling | None:
    rope = _rope(fields)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind not in ("linear", "llama3"):
        wrong = f"rotary scaling {kind!r} is not implemented; default, linear and llama3 are"
        raise fields.error("rope_scaling", wrong, "model-unsupported")
    try:
        if kind == "linear":
            return RopeScaling(kind, float(rope["factor"]))
        return RopeScaling(
            kind,
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_length=int(rope["original_max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise fields.error("rope_scaling", f"{kind} needs a proper {error}") from error


def _read(path: Path, required: bool) -> Mapping[str, Any]:
    if not required and not path.exists():
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            "model-missing",
            where=str(path),
            wrong="the file is not there",
            fix="copy the whole checkpoint directory, config.json included",
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            "model-corrupt",
            where=str(path),
            wrong=f"cannot be read as JSON: {error}",
            fix="restore the file from the checkpoint",
        ) from error
    if not isinstance(content, dict):
        raise UserError(
            "model-corrupt",
            where=str(path),
            wrong="holds no JSON object",
            fix="restore the file from the checkpoint",
        )
    return content
