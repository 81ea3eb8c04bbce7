"""Requests of a wanted size: such as the tiny model's answers can be checked by, or noise."""

import json
from random import Random
from typing import Any, Final

from splitwise_cli.bench.answers import Asked
from splitwise_core.tiny_tasks import NUMBERS

TINY: Final = "tiny"
"""What the examples call the model of `splitwise model tiny`, whose answers are known."""

NOISE: Final = range(36, 94)
"""Token ids that stand for single printable ASCII bytes in the vocabularies of byte-level BPE, of
Llama 2 and of the tiny model: a model of random weights mostly repeats them, and each is text by
itself. A byte that is only part of a character would be held back, and its time with it."""


class Prompts:
    """Makes one request after the other. `checked`: their answers are known, to the word."""

    def __init__(self, model: str, checked: bool, seed: int) -> None:
        self.model = model
        self.checked = checked
        self._draw = Random(seed)

    def ask(self, prompt_tokens: int, output_tokens: int) -> Asked:
        """A request for exactly `output_tokens`, the end-of-sequence token taken as any other."""
        if self.checked:
            numbers = counting(self._draw.randrange(NUMBERS), prompt_tokens + output_tokens)
            shown, wanted = "".join(numbers[:prompt_tokens]), "".join(numbers[prompt_tokens:])
            body = self._body(shown, output_tokens)
            return Asked(body, prompt_tokens, output_tokens, wanted)
        noise = self._draw.choices(NOISE, k=prompt_tokens)
        return Asked(self._body(noise, output_tokens), prompt_tokens, output_tokens)

    def _body(self, prompt: str | list[int], output_tokens: int) -> bytes:
        document: dict[str, Any] = {
            "model": self.model,
            "prompt": prompt,
            "max_tokens": output_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(document).encode()


def counting(first: int, tokens: int) -> list[str]:
    """Numbers from `first` on, each one token; after the last that the tiny model knows comes 0.

    A lost, repeated or strange token shows in them. What the KV holds matters little: each number
    follows from the one before it.
    """
    return [f" {(first + i) % NUMBERS}" for i in range(tokens)]
