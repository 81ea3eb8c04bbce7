"""`python -m bench.engine`: decode tokens per second against `transformers` generate.

Both sides run in this process with the same weights (fp32), threads and prompts, by turns, several
times. The ratio is the median of the turns' own ratios: a busy moment spoils one turn only. Ours
runs as it does in a worker: scheduler steps of `Runner`, KV in a pool, sampling included.
`transformers` runs `generate` with one sequence. A prompt is also computed whole and behind a
cached beginning, by turns: what a hit in the prefix cache saves.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from splitwise_worker.kv.store import KvStore
from splitwise_worker.loaded import BLOCK_TOKENS
from splitwise_worker.model.decoder import Decoder
from splitwise_worker.random_model import write
from splitwise_worker.runner import Runner
from splitwise_worker.sampling import SamplingParams
from splitwise_worker.sequence import LiveSequence, Phase, SequenceKey

LENGTH = 512
BLOCKS = LENGTH // BLOCK_TOKENS
HIT_TOKENS = 14 * BLOCK_TOKENS


class PlainStore:
    """A KV pool without a sidecar."""

    def __init__(self, decoder: Decoder, blocks: int) -> None:
        c = decoder.config
        self.tensor = torch.zeros(blocks, c.num_layers, 2, BLOCK_TOKENS, c.kv_heads, c.head_dim)

    def publish(self, layer: int, blocks: Any, done: Callable[[], None]) -> None:
        """Nobody reads it."""

    def publish_all(self, blocks: Any, done: Callable[[], None]) -> None:
        """Nobody reads them."""

    def settle(self) -> None:
        """Nothing is on its way."""

    def fetch(self, blocks: Any) -> None:
        """Nothing arrives."""


def sequences(count: int, prompt: list[int], tokens: int) -> list[LiveSequence]:
    """`count` greedy requests for the same prompt."""
    return [
        LiveSequence(
            key=SequenceKey(0, number),
            request_id=str(number),
            prompt_tokens=list(prompt),
            output_tokens=[],
            params=SamplingParams(max_tokens=tokens + 1, ignore_eos=True),
            phase=Phase.RUNNING,
            arrived_s=0.0,
            deadline_s=float("inf"),
            blocks=tuple(range(number * BLOCKS, (number + 1) * BLOCKS)),
        )
        for number in range(count)
    ]


def ours(runner: Runner, count: int, prompt: list[int], tokens: int) -> tuple[float, list[int]]:
    """Decode tokens per second in all, and the tokens of the first sequence."""
    running = sequences(count, prompt, tokens)
    for sequence in running:
        sequence.output_tokens += _tokens(runner, [sequence])
    started = time.perf_counter()
    for _ in range(tokens - 1):
        for sequence, token in zip(running, _tokens(runner, running), strict=True):
            sequence.output_tokens.append(token)
    seconds = time.perf_counter() - started
    return count * (tokens - 1) / seconds, running[0].output_tokens


def prompt_s(runner: Runner, prompt: list[int], cached: int) -> tuple[float, int]:
    """Seconds to the first token when `cached` tokens are in the blocks already, and the token."""
    (sequence,) = sequences(1, prompt, 1)
    sequence.computed_tokens = cached
    started = time.perf_counter()
    (token,) = _tokens(runner, [sequence])
    return time.perf_counter() - started, token


def _tokens(runner: Runner, batch: list[LiveSequence]) -> list[int]:
    """One step; every sequence of the batch gets a token by it."""
    return [sampled.token for sampled in runner.run(batch) if sampled is not None]


def theirs(model: Any, prompt: list[int], tokens: int) -> tuple[float, list[int]]:
    """Decode tokens per second of generate: the time of one token, the prompt's, is taken off."""
    inputs = torch.tensor([prompt])

    def generate(count: int) -> tuple[float, list[int]]:
        started = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=count,
                min_new_tokens=count,
                do_sample=False,
                pad_token_id=0,
            )
        return time.perf_counter() - started, out[0, len(prompt) :].tolist()

    first, _ = generate(1)
    whole, found = generate(tokens)
    return (tokens - 1) / (whole - first), found


def main() -> int:
    """Prints a table and one JSON line; 1 when the two do not generate the same tokens."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--preset", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--cache", type=Path, default=Path(".cache/models"))
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    directory = asked.cache / f"random-{asked.preset}"
    if not (directory / "config.json").exists():
        write(directory, asked.preset, 0)
    from transformers import AutoModelForCausalLM

    reference = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    decoder = Decoder.load(directory, max_model_len=LENGTH)
    store: KvStore = PlainStore(decoder, 8 * BLOCKS)
    runner = Runner(decoder, store, BLOCK_TOKENS, "cpu")
    prompt = [(7 * i + 3) % 1000 for i in range(asked.prompt_tokens)]
    long = [(11 * i + 5) % 1000 for i in range(LENGTH - 1)]
    saved: list[float] = []
    rates: dict[str, list[float]] = {"transformers": [], "ours": [], "ours, 8 at once": []}
    same = True
    for repeat in range(asked.repeats + 1):
        rate, wanted = theirs(reference, prompt, asked.tokens)
        one, found = ours(runner, 1, prompt, asked.tokens)
        eight, beside = ours(runner, 8, prompt, asked.tokens)
        same = same and wanted == found == beside
        whole_s, first = prompt_s(runner, long, 0)
        rest_s, again = prompt_s(runner, long, HIT_TOKENS)
        same = same and first == again
        if repeat:  # the first turn warms up
            for name, value in zip(rates, (rate, one, eight), strict=True):
                rates[name].append(value)
            saved.append(whole_s / rest_s)
            sys.stderr.write(f"turn {repeat}: {rate:.1f} {one:.1f} {eight:.1f} tokens/s\n")
    base = rates["transformers"]
    ratios = {
        name: median(ours / theirs for ours, theirs in zip(values, base, strict=True))
        for name, values in rates.items()
    }
    medians = {name: median(values) for name, values in rates.items()}
    for name, value in medians.items():
        print(f"{name:<18} {value:8.1f} tokens/s   {ratios[name]:5.2f}x")
    print(f"a hit of {HIT_TOKENS} of {len(long)} prompt tokens: {median(saved):.2f}x as soon")
    print(f"same tokens: {'yes' if same else 'NO'}")
    result = {
        "bench": "engine",
        "preset": asked.preset,
        "threads": asked.threads,
        "tokens_per_s": medians,
        "ratio_one": ratios["ours"],
        "ratio_eight": ratios["ours, 8 at once"],
        "prefix_hit": {"tokens": HIT_TOKENS, "of": len(long), "ratio": median(saved)},
        "same_tokens": same,
        "torch": torch.__version__,
    }
    print(json.dumps(result))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
