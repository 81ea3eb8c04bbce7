"""A small real tokenizer for tests that need no model: byte-level BPE with a chat template."""

import json
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CONTEXT = 8192
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
_TEXT = ["zero one two three four five six seven eight nine ten eleven twelve thirteen"] * 4


def write_tokenizer(directory: Path) -> None:
    """Writes what the router reads of a model directory."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXT, trainer)
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    files = {
        "config.json": {
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": CONTEXT,
        },
        "tokenizer_config.json": {"chat_template": TEMPLATE, "eos_token": "<|end|>"},
        "generation_config.json": {"eos_token_id": 0},
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content), "utf-8")
