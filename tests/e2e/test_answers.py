"""What clients get is what the weights say, and the KV really moved."""

import asyncio
import json
import random
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from splitwise_core.kv import KvGeometry
from tests.support.cluster import Cluster, all_blocks_are_free

pytestmark = pytest.mark.e2e

REQUESTS = 64
LONGEST_PROMPT = 1500


def requests(vocab_size: int) -> list[tuple[list[int], int]]:
    """Prompts of 1 to 1,500 random tokens and how many tokens to generate."""
    draw = random.Random(7)
    lengths = [1, 2, LONGEST_PROMPT] + [
        draw.randint(1, LONGEST_PROMPT) for _ in range(REQUESTS - 3)
    ]
    return [
        ([draw.randrange(vocab_size) for _ in range(length)], draw.randint(2, 40))
        for length in lengths
    ]


class Reference:
    """transformers on the same weights, greedy, fp32."""

    def __init__(self, model: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.config = self.model.config
        self._known: dict[tuple[tuple[int, ...], int], list[int]] = {}

    def tokens(self, prompt: list[int], count: int) -> list[int]:
        """The next `count` tokens, end-of-sequence tokens taken as any other."""
        key = (tuple(prompt), count)
        if key not in self._known:
            self._known[key] = self._generate(prompt, count)
        return self._known[key]

    def _generate(self, prompt: list[int], count: int) -> list[int]:
        inputs = self.torch.tensor([prompt])
        with self.torch.inference_mode():
            output = self.model.generate(
                inputs,
                attention_mask=self.torch.ones_like(inputs),
                max_new_tokens=count,
                do_sample=False,
                eos_token_id=-1,
                pad_token_id=0,
            )
        return [int(token) for token in output[0, len(prompt) :]]


@lru_cache(maxsize=1)
def reference(model: Path) -> Reference:
    return Reference(model)


async def ask(client: AsyncOpenAI, prompt: list[int], count: int) -> tuple[list[str], Any]:
    """The streamed tokens as texts, and the usage with our own figures."""
    stream = await client.completions.create(
        model="tiny",
        prompt=prompt,
        max_tokens=count,
        temperature=0,
        stream=True,
        logprobs=0,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    tokens: list[str] = []
    usage = None
    async for chunk in stream:
        for choice in chunk.choices:
            if choice.logprobs and choice.logprobs.tokens:
                tokens += choice.logprobs.tokens
        usage = chunk.usage or usage
    return tokens, usage


async def ask_all(
    cluster: Cluster, asked: Sequence[tuple[list[int], int]]
) -> list[tuple[list[str], Any]]:
    """What each gets when all ask at once."""
    async with AsyncOpenAI(base_url=f"{cluster.url}/v1", api_key="none") as client:
        return await asyncio.gather(*(ask(client, *request) for request in asked))


def test_many_streams_at_once_equal_transformers_token_for_token(
    cluster: Cluster, tiny_model: Path
) -> None:
    wanted = reference(tiny_model)
    asked = requests(wanted.config.vocab_size)
    before = {pod["name"]: cluster.metrics(pod) for pod in cluster.pods("token")}

    answers = asyncio.run(ask_all(cluster, asked))
    geometry = kv_geometry(tiny_model)
    for (prompt, count), (tokens, usage) in zip(asked, answers, strict=True):
        expected = wanted.tokens(prompt, count)
        assert tokens == [wanted.tokenizer.decode([token]) for token in expected]
        assert usage.completion_tokens == count
        assert usage.splitwise["kv_bytes"] == geometry.sequence_bytes(len(prompt))
        assert usage.splitwise["transport"] == "shm"
    for pod in cluster.pods("token"):
        metrics = cluster.metrics(pod)
        computed = "splitwise_worker_computed_tokens_total"
        assert metrics.value(computed, kind="prompt") == 0, "a token worker computed a prompt"
        decoded = metrics.value(computed, kind="token")
        assert decoded > before[pod["name"]].value(computed, kind="token")
    all_blocks_are_free(cluster)


def kv_geometry(model: Path) -> KvGeometry:
    config = json.loads((model / "config.json").read_text())
    return KvGeometry(
        model="tiny",
        dtype="float32",
        num_layers=config["num_hidden_layers"],
        kv_heads=config["num_key_value_heads"],
        head_dim=config["head_dim"],
        block_tokens=1,
    )


def test_bytes_moved_are_counted_alike_on_both_sides(cluster: Cluster, tiny_model: Path) -> None:
    def counted() -> list[float]:
        return [
            sum(
                cluster.metrics(pod).value(name, direction=direction, transport="shm")
                for pod in cluster.pods(role)
            )
            for role in ("prompt", "token")
            for direction in ("sent", "received")
        ]

    name = "splitwise_kv_transfer_bytes_total"
    draw = random.Random(8)
    vocabulary = reference(tiny_model).config.vocab_size
    asked = [([draw.randrange(vocabulary) for _ in range(n)], 3) for n in (1, 64, 500, 1500)]
    before = counted()
    asyncio.run(ask_all(cluster, asked))
    moved = sum(kv_geometry(tiny_model).sequence_bytes(len(prompt)) for prompt, _ in asked)
    assert [now - then for now, then in zip(counted(), before)] == [moved, 0, 0, moved]
