"""Trains the tiny model: copying first, which forms the look-back, then the tasks themselves."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from splitwise_worker.tiny.network import Shape, Weights, hidden, initial
from splitwise_worker.tiny.rows import IGNORED, Rows
from splitwise_worker.tiny.vocabulary import write_tokenizer

LEARNING_RATE: Final = 3e-3
SEED: Final = 5


@dataclass(frozen=True, slots=True)
class Stage:
    """`steps` steps on `rows` rows of `length` tokens; `copies` is their share of copied text."""

    steps: int
    rows: int
    length: int
    copies: float


STAGES: Final = (
    Stage(steps=150, rows=32, length=64, copies=0.5),
    Stage(steps=100, rows=16, length=128, copies=0.2),
    Stage(steps=100, rows=8, length=384, copies=0.1),
    Stage(steps=80, rows=3, length=1024, copies=0.0),
    Stage(steps=80, rows=2, length=1536, copies=0.0),
)


def train(directory: Path, progress: Callable[[str], None] | None = None) -> None:
    """Writes a trained checkpoint in Hugging Face format to `directory`."""
    say = progress or _to_stderr
    shape = Shape()
    weights = initial(shape, SEED)
    optimiser = torch.optim.AdamW(
        [{"params": list(weights.values())}], lr=LEARNING_RATE, weight_decay=0.01, betas=(0.9, 0.98)
    )
    total = sum(stage.steps for stage in STAGES)
    rows, done, started = Rows(SEED), 0, time.monotonic()
    for stage in STAGES:
        for step in range(stage.steps):
            for group in optimiser.param_groups:
                group["lr"] = LEARNING_RATE * _schedule(done, total)
            tokens, targets = rows.batch(stage.rows, stage.length, stage.copies)
            loss = _loss(weights, shape, tokens, targets)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimiser.step()
            done += 1
            if done % 50 == 0 or step + 1 == stage.steps:
                seconds = time.monotonic() - started
                say(
                    f"step {done}/{total}  {stage.length} tokens  loss {loss.item():.3f}  "
                    f"{seconds:.0f} s"
                )
    _save(directory, shape, weights)
    say(f"wrote {directory}")


def _schedule(step: int, total: int) -> float:
    """A short warm-up, level for 60 %, then down to a twentieth in a straight line."""
    left = (total - step) / total
    return min(1.0, (step + 1) / 20, 0.05 + left / 0.4)


def _loss(weights: Weights, shape: Shape, tokens: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over the positions that have a target; only those reach the vocabulary."""
    states = hidden(weights, shape, tokens)
    asked = targets != IGNORED
    logits = F.linear(states[asked], weights["model.embed_tokens.weight"])
    return F.cross_entropy(logits, targets[asked])


def _save(directory: Path, shape: Shape, weights: Weights) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    write_tokenizer(directory, shape.length)
    tensors = {name: tensor.detach().contiguous() for name, tensor in weights.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.dumps(shape.config(), indent=1)
    (directory / "config.json").write_text(config + "\n", "utf-8")


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
