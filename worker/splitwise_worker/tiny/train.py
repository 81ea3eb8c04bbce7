"""Trains the tiny model: copying first, which forms the look-back, then the tasks themselves.

It ends with an exam, because rounding differs between machines and thread counts: a model that
fails goes back to its last lessons.
"""

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

from splitwise_worker.tiny.exam import Marks, examine
from splitwise_worker.tiny.network import Shape, hidden, initial
from splitwise_worker.tiny.rows import IGNORED, Rows
from splitwise_worker.tiny.vocabulary import write_tokenizer

LEARNING_RATE: Final = 3e-3
SEED: Final = 5
MOST_REVISIONS: Final = 4

SERIES_ROWS: Final = 32
SERIES_TOKENS: Final = 16
"""Each step counts a little too: long rows of lookups would drive out what short ones taught."""


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
REVISION: Final = Stage(steps=40, rows=2, length=1536, copies=0.0)


def train(directory: Path, progress: Callable[[str], None] | None = None) -> None:
    """Writes a trained checkpoint in Hugging Face format to `directory`.

    Raises RuntimeError when the model still fails its exam after MOST_REVISIONS.
    """
    lessons = _Lessons(progress or _to_stderr)
    total = sum(stage.steps for stage in STAGES)
    for stage in STAGES:
        lessons.teach(stage, lambda step: _schedule(step, total))
    marks = lessons.examined()
    for _ in range(MOST_REVISIONS):
        if marks.passed:
            break
        lessons.teach(REVISION, lambda _: 0.1)
        marks = lessons.examined()
    if not marks.passed:
        raise RuntimeError(f"the tiny model has not learnt its tasks: {marks}")
    lessons.save(directory)


class _Lessons:
    """The weights, their optimiser, and how far it is."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._shape = Shape()
        self._weights = initial(self._shape, SEED)
        self._optimiser = torch.optim.AdamW(
            [{"params": list(self._weights.values())}],
            lr=LEARNING_RATE,
            weight_decay=0.01,
            betas=(0.9, 0.98),
        )
        self._rows = Rows(SEED)
        self._done = 0
        self._started = time.monotonic()

    def teach(self, stage: Stage, rate: Callable[[int], float]) -> None:
        """Trains one stage; `rate(step)` is the part of the learning rate that a step takes."""
        for number in range(stage.steps):
            for group in self._optimiser.param_groups:
                group["lr"] = LEARNING_RATE * rate(self._done)
            loss = self._loss(*self._rows.batch(stage.rows, stage.length, stage.copies))
            loss = loss + self._loss(*self._rows.series(SERIES_ROWS, SERIES_TOKENS))
            self._optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self._weights.values(), 1.0)
            self._optimiser.step()
            self._done += 1
            if self._done % 50 == 0 or number + 1 == stage.steps:
                what = f"step {self._done}  {stage.length:4} tokens  loss {loss.item():.3f}"
                self._tell(what)

    def examined(self) -> Marks:
        """How the model does on questions it has not seen."""
        marks = examine(self._weights, self._shape)
        self._tell(str(marks))
        return marks

    def save(self, directory: Path) -> None:
        """Writes the checkpoint."""
        directory.mkdir(parents=True, exist_ok=True)
        write_tokenizer(directory, self._shape.length)
        tensors = {name: tensor.detach().contiguous() for name, tensor in self._weights.items()}
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        config = json.dumps(self._shape.config(), indent=1)
        (directory / "config.json").write_text(config + "\n", "utf-8")

    def _tell(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._started:4.0f} s  {what}")

    def _loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy over the positions that have a target; only those reach the vocabulary."""
        states = hidden(self._weights, self._shape, tokens)
        asked = targets != IGNORED
        logits = F.linear(states[asked], self._weights["model.embed_tokens.weight"])
        return F.cross_entropy(logits, targets[asked])


def _schedule(step: int, total: int) -> float:
    """A short warm-up, level for 60 %, then down to a twentieth in a straight line."""
    left = (total - step) / total
    return min(1.0, (step + 1) / 20, 0.05 + left / 0.4)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
