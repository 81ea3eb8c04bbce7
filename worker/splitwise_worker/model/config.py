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
        return int(self.number(name, default))

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
    architecture = (fields.values.get("architectures") or ["?"])[0]
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
    eos = generation.get("eos_token_id", fields.values.get("eos_token_id"))
    window_on = architecture.startswith("Mistral") or fields.values.get("use_sliding_window", False)
    return ModelConfig(
        architecture=architecture,
        num_layers=fields.count("num_hidden_layers"),
        width=width,
        num_heads=heads,
        kv_heads=kv_heads,
        head_dim=fields.count("head_dim", width // heads),
        mlp_width=fields.count("intermediate_size"),
        vocab_size=fields.count("vocab_size"),
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(fields),
        rope_scaling=_rope_scaling(fields),
        max_positions=fields.count("max_position_embeddings"),
        qkv_bias=architecture.startswith("Qwen2")
        or bool(fields.values.get("attention_bias", False)),
        qk_norm=architecture.startswith("Qwen3"),
        tied_embeddings=bool(fields.values.get("tie_word_embeddings", False)),
        sliding_window=fields.values.get("sliding_window") if window_on else None,
        eos_token_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
    )


def _rope(fields: _Fields) -> Mapping[str, Any]:
    """transformers 5 writes `rope_parameters`, earlier ones `rope_theta` and `rope_scaling`."""
    return fields.values.get("rope_parameters") or fields.values.get("rope_scaling") or {}


def _rope_theta(fields: _Fields) -> float:
    return float(_rope(fields).get("rope_theta") or fields.number("rope_theta", 10_000.0))


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
