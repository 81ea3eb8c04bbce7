"""Prompts that begin alike, on real workers: found, neither computed nor moved twice, and right."""

import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.test_answers import kv_geometry, reference
from tests.support.cluster import Cluster, all_blocks_are_free

pytestmark = pytest.mark.e2e

BLOCK = 32
COUNT = 12


def ask(cluster: Cluster, prompt: list[int]) -> dict[str, Any]:
    """The usage and the text of a greedy answer of COUNT tokens."""
    asked = {"model": "tiny", "prompt": prompt, "max_tokens": COUNT, "temperature": 0}
    answer = httpx.post(
        f"{cluster.url}/v1/completions", json=asked | {"ignore_eos": True}, timeout=60
    ).json()
    return dict(answer)


def test_a_common_beginning_is_neither_computed_nor_moved_twice(
    cluster: Cluster, tiny_model: Path
) -> None:
    wanted = reference(tiny_model)
    geometry = kv_geometry(tiny_model)
    draw = random.Random(11)
    vocabulary = wanted.config.vocab_size
    system = [draw.randrange(vocabulary) for _ in range(10 * BLOCK)]
    for number in range(6):
        prompt = [*system, *(draw.randrange(vocabulary) for _ in range(20 + number))]
        answer = ask(cluster, prompt)
        tokens = wanted.tokens(prompt, COUNT)
        expected = wanted.tokenizer.decode(tokens, skip_special_tokens=True)
        assert answer["choices"][0]["text"] == expected
        usage = answer["usage"]
        cached = 0 if number == 0 else len(system)
        assert usage["prompt_tokens_details"] == {"cached_tokens": cached}
        moved = usage["splitwise"]["kv_bytes"]
        assert moved == geometry.sequence_bytes(len(prompt) - cached)
    all_blocks_are_free(cluster)
