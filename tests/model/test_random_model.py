"""Random checkpoints have the shapes of the models that gave their names, and serve."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM

from splitwise_core.errors import UserError
from splitwise_worker.model.batch import Span, make_batch
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.random_model import PRESETS, Preset, write, write_shape


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("smollm2-135m", 134.5), ("tinyllama-1.1b", 1100), ("llama-3-8b", 8030), ("qwen3-0.6b", 596)],
)
def test_a_preset_has_the_parameters_its_name_promises(preset: str, millions: float) -> None:
    fields = PRESETS[preset].config()
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(fields.pop("model_type"), **fields)
        )
    assert model.num_parameters() / 1e6 == pytest.approx(millions, rel=2e-3)


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen3ForCausalLM"])
def test_what_is_written_can_be_served(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Preset(2, 32, 4, 2, 8, 48, 1000, 64, 10_000.0, False, architecture)
    monkeypatch.setitem(PRESETS, "small", small)
    for directory, seed in (("a", 1), ("b", 1), ("c", 2)):
        write(tmp_path / directory, "small", seed)
    stored = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert stored[0] == stored[1] != stored[2]
    tokens = Tokenizer.from_file(str(tmp_path / "a" / "tokenizer.json")).encode("any text").ids
    decoder = Decoder.load(tmp_path / "a", max_model_len=64)
    with torch.inference_mode():
        logits = decoder.forward(
            make_batch([Span(tokens, 0, [0])], 64, "cpu"), torch.zeros(1, 2, 2, 64, 2, 8)
        )
    assert logits.shape == (1, 1000)
    assert logits.isfinite().all()


@pytest.mark.parametrize("tied", [True, False], ids=["head and embedding are one", "they are two"])
def test_each_token_of_an_answer_is_text_by_itself(tied: bool, tmp_path: Path) -> None:
    """Else a router holds it back, up to eight tokens long, and what a client measures is that."""
    write_shape(tmp_path, Preset(2, 64, 4, 2, 16, 96, 5000, 64, 10_000.0, tied), seed=3)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    decoder, pool = Decoder.load(tmp_path, max_model_len=64), torch.zeros(1, 2, 2, 64, 2, 16)
    with torch.inference_mode():
        for prompt in torch.randint(36, 94, (20, 40), generator=torch.Generator().manual_seed(0)):
            batch = make_batch([Span(prompt.tolist(), 0, [0])], 64, "cpu")
            token = int(decoder.forward(batch, pool).argmax())
            text = tokenizer.decode([token])
            assert text, f"{token} has no text"
            assert not text.endswith("\ufffd"), f"{token} is a part of a character"


def test_an_unknown_preset_is_refused_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="smollm2-135m") as refused:
        write(tmp_path / "x", "gpt-5", 0)
    assert refused.value.code == "unknown-preset"
    assert not (tmp_path / "x").exists()
