"""What a checkpoint says of itself is understood, or refused with the field and the file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.models.llama import LlamaConfig

from splitwise_core.errors import UserError
from splitwise_worker.model.config import ModelConfig, RopeScaling
from splitwise_worker.model.decoder import Decoder

FIELDS: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "vocab_size": 97,
    "rms_norm_eps": 1e-5,
}


def read(directory: Path, generation: dict[str, Any] | None = None, **fields: Any) -> ModelConfig:
    (directory / "config.json").write_text(json.dumps(FIELDS | fields))
    if generation is not None:
        (directory / "generation_config.json").write_text(json.dumps(generation))
    return ModelConfig.load(directory)


@pytest.mark.parametrize(
    ("own", "generation", "wanted"),
    [
        pytest.param(2, None, (2,), id="one id"),
        pytest.param([1, 2], None, (1, 2), id="several"),
        pytest.param(2, {"eos_token_id": [5, 6, 7]}, (5, 6, 7), id="generation_config.json wins"),
        pytest.param(2, {"top_p": 0.9}, (2,), id="unless it says nothing of them"),
        pytest.param(None, None, (), id="none at all"),
    ],
)
def test_the_ids_that_end_an_answer(
    tmp_path: Path, own: Any, generation: Any, wanted: tuple[int, ...]
) -> None:
    assert read(tmp_path, generation, eos_token_id=own).eos_token_ids == wanted


def test_rope_is_read_in_its_old_and_in_its_new_form(tmp_path: Path) -> None:
    kind = {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    new = read(tmp_path, rope_parameters={"rope_type": "llama3", "rope_theta": 5e5} | kind)
    old = read(tmp_path, rope_theta=5e5, rope_scaling={"type": "llama3"} | kind)
    assert new == old
    assert new.rope_scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 32)


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 16}, 16),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": None}, None),
        ({"architectures": ["MistralForCausalLM"]}, 4096),
        ({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 16}, None),
        (
            {
                "architectures": ["Qwen2ForCausalLM"],
                "sliding_window": 16,
                "use_sliding_window": True,
            },
            16,
        ),
    ],
    ids=["mistral", "mistral, null", "mistral, left out", "qwen2, off", "qwen2, on"],
)
def test_the_window_of_attention(
    tmp_path: Path, fields: dict[str, Any], window: int | None
) -> None:
    assert read(tmp_path, **fields).sliding_window == window


def test_a_context_beyond_the_window_is_refused_with_the_window(tmp_path: Path) -> None:
    read(tmp_path, architectures=["MistralForCausalLM"], sliding_window=16)
    with pytest.raises(UserError, match="at most 16") as refused:
        Decoder.load(tmp_path, max_model_len=17)
    assert refused.value.code == "model-unsupported"


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("architectures", ["GPT2LMHeadModel"], "model-unsupported"),
        ("architectures", [], "model-unsupported"),
        ("architectures", 5, "model-unsupported"),
        ("hidden_act", "gelu", "model-unsupported"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}, "model-unsupported"),
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}, "model-corrupt"),
        ("rope_scaling", "linear", "model-corrupt"),
        ("rope_theta", "large", "model-corrupt"),
        ("partial_rotary_factor", 0.5, "model-unsupported"),
        ("hidden_size", None, "model-corrupt"),
        ("hidden_size", -48, "model-corrupt"),
        ("num_hidden_layers", 2.5, "model-corrupt"),
        ("num_key_value_heads", 4, "model-corrupt"),
        ("head_dim", 7, "model-corrupt"),
        ("rms_norm_eps", "small", "model-corrupt"),
        ("vocab_size", True, "model-corrupt"),
        ("eos_token_id", "</s>", "model-corrupt"),
        ("eos_token_id", [1, None], "model-corrupt"),
    ],
)
def test_a_field_that_cannot_be_served_is_named(
    tmp_path: Path, field: str, value: Any, code: str
) -> None:
    with pytest.raises(UserError) as refused:
        read(tmp_path, **{field: value})
    assert refused.value.code == code
    assert refused.value.where == f"{tmp_path / 'config.json'}: {field}"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "model-missing"),
        (b"{", "model-corrupt"),
        (b"[]", "model-corrupt"),
        (b"\xff\xfe", "model-corrupt"),
    ],
    ids=["missing", "no JSON", "no object", "no text"],
)
def test_a_config_that_cannot_be_read_is_named(
    tmp_path: Path, content: bytes | None, code: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.json") as refused:
        ModelConfig.load(tmp_path)
    assert refused.value.code == code


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model as transformers saves it."""
    directory = tmp_path_factory.mktemp("model")
    torch.manual_seed(1)
    fields = {name: value for name, value in FIELDS.items() if name != "architectures"}
    AutoModelForCausalLM.from_config(LlamaConfig(**fields)).save_pretrained(directory)
    return directory


def changed(checkpoint: Path, directory: Path, **tensors: torch.Tensor | None) -> Path:
    """A copy with other tensors; None leaves one out."""
    config = (checkpoint / "config.json").read_text()
    (directory / "config.json").write_text(config)
    held = load_file(checkpoint / "model.safetensors") | tensors
    kept = {name: tensor for name, tensor in held.items() if tensor is not None}
    save_file(kept, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


@pytest.mark.parametrize(
    ("tensor", "wrong"),
    [
        (None, "no such tensor"),
        (torch.zeros(48), r"has shape \(48,\), config.json asks for \(48, 80\)"),
        (torch.zeros(48, 80, dtype=torch.int8), "quantized checkpoints are not implemented"),
    ],
    ids=["is missing", "has another shape", "is quantized"],
)
def test_a_tensor_that_does_not_fit_is_named(
    checkpoint: Path, tmp_path: Path, tensor: torch.Tensor | None, wrong: str
) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    with pytest.raises(UserError, match=wrong) as refused:
        Decoder.load(changed(checkpoint, tmp_path, **{name: tensor}), max_model_len=64)
    assert "layers.1.mlp.down_proj.weight" in str(refused.value)


def test_a_directory_without_weights_is_named(tmp_path: Path) -> None:
    read(tmp_path)
    with pytest.raises(UserError, match=str(tmp_path)) as refused:
        Decoder.load(tmp_path, max_model_len=64)
    assert refused.value.code == "model-missing"
