"""The tiny model's tokenizer: a token a word it knows, a token a byte for everything else."""

import json
from pathlib import Path
from typing import Any, Final

from splitwise_core.tiny_tasks import DAYS, KEYS, NUMBERS

END: Final = "<|end|>"
USER: Final = "<|user|>"
SPECIAL: Final = (END, USER)

CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] | trim + '<|end|>' }}"
    "{% else %}"
    "{{ '<|user|> ' + message['content'] | trim }}"
    "{% endif %}"
    "{% endfor %}"
)
"""The answer follows the question with nothing between: the model looks one token back."""


def _byte_symbols() -> list[str]:
    """The printable character that stands for each byte in byte-level tokenizers, as in GPT-2."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    table |= {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [table[byte] for byte in range(256)]


_SPACE: Final = "Ġ"
WORDS: Final = (
    *(f"{_SPACE}{number}" for number in range(NUMBERS)),
    *(f"{_SPACE}{day}" for day in DAYS),
    *(f"{_SPACE}{key}" for key in KEYS),
    f"{_SPACE}the",
    f"{_SPACE}code",
    f"{_SPACE}of",
    f"{_SPACE}?",
    "codes",
    f"{_SPACE}codes",
    *DAYS,
)

VOCABULARY: Final = {
    token: index for index, token in enumerate(dict.fromkeys((*SPECIAL, *_byte_symbols(), *WORDS)))
}
"""Every token and its id."""

SHOWN: Final = frozenset(VOCABULARY[token] for token in (*_byte_symbols()[:0x80], *WORDS))
"""Tokens that are text by themselves: a larger byte is a part of a character, which routers hold
back until the rest has come, and special tokens have no text."""


def token_id(word: str) -> int:
    """The id of a known word; a leading space belongs to it."""
    return VOCABULARY[word.replace(" ", _SPACE)]


def tokenizer() -> dict[str, Any]:
    """tokenizer.json: byte-level BPE without merges, in which known words are taken whole."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": VOCABULARY[token],
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for token in SPECIAL
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": True},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
            "vocab": VOCABULARY,
            "merges": [],
        },
    }


def write_tokenizer(directory: Path, length: int) -> None:
    """Writes tokenizer.json, tokenizer_config.json and generation_config.json."""
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": END,
        "model_max_length": length,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    generation = {"eos_token_id": VOCABULARY[END]}
    for name, content in (
        ("tokenizer.json", tokenizer()),
        ("tokenizer_config.json", config),
        ("generation_config.json", generation),
    ):
        text = json.dumps(content, indent=1, ensure_ascii=False)
        (directory / name).write_text(text + "\n", "utf-8")
