"""From logits to tokens. A draw depends on the seed and the position alone, never on the batch.

So the same seeded request yields the same tokens on any worker, beside any others, after a
hand-over and after a retry.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one request samples. Raises ValueError naming the field that is out of range."""

    temperature: float = 0.0  # 0: greedy
    top_k: int = 0  # 0: off
    top_p: float = 1.0  # 1: off
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0  # 1: off
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    logprobs: int | None = None  # alternatives beside the chosen token's own; None: none at all
    max_tokens: int = 16
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks = {
            "temperature": math.isfinite(self.temperature) and self.temperature >= 0,
            "top_k": self.top_k >= 0,
            "top_p": 0 < self.top_p <= 1,
            "min_p": 0 <= self.min_p <= 1,
            "repetition_penalty": math.isfinite(self.repetition_penalty)
            and self.repetition_penalty > 0,
            "presence_penalty": math.isfinite(self.presence_penalty),
            "frequency_penalty": math.isfinite(self.frequency_penalty),
            "logprobs": self.logprobs is None or self.logprobs >= 0,
            "max_tokens": self.max_tokens >= 1,
            "logit_bias": all(math.isfinite(bias) for bias in self.logit_bias.values()),
        }
        for name, holds in checks.items():
            if not holds:
                raise ValueError(f"{name}: {getattr(self, name)} is out of range")

    @property
    def changes_logits(self) -> bool:
        """Whether anything but the temperature and the cuts acts on the logits."""
        return (
            self.repetition_penalty != 1.0
            or self.presence_penalty != 0.0
            or self.frequency_penalty != 0.0
            or bool(self.logit_bias)
        )


@dataclass(frozen=True, slots=True)
class SampleInput:
    """One row to sample: `position` is where the new token will stand in its sequence."""

    params: SamplingParams
    prompt_tokens: Sequence[int]
    output_tokens: Sequence[int]
    position: int


@dataclass(frozen=True, slots=True)
class Sampled:
    """A drawn token; its log-probability and the likeliest ones are those of the raw model."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


def sample(logits: Tensor, rows: Sequence[SampleInput]) -> list[Sampled]:
    """The next token of each row of logits [B, vocab]; `logits` is left as it is.

    Greedy rows without anything else asked cost one argmax for all of them together.
    """
    greedy: list[int] = logits.argmax(dim=-1).tolist()
    return [
        Sampled(token) if _is_plain(row.params) else _sample_row(logits[index], row)
        for index, (row, token) in enumerate(zip(rows, greedy, strict=True))
    ]


def _is_plain(params: SamplingParams) -> bool:
    return params.temperature == 0 and params.logprobs is None and not params.changes_logits


def _sample_row(logits: Tensor, row: SampleInput) -> Sampled:
    params = row.params
    adjusted = penalised(logits, row) if params.changes_logits else logits
    if params.temperature == 0:
        token = int(adjusted.argmax())
    else:
        weights = distribution(adjusted, params)
        token = _draw(weights, uniform(params.seed, row.position))
    if params.logprobs is None:
        return Sampled(token)
    raw = logits.log_softmax(dim=-1)
    top = raw.topk(min(params.logprobs, len(raw)))
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return Sampled(token, float(raw[token]), tuple(pairs))


def penalised(logits: Tensor, row: SampleInput) -> Tensor:
    """Logits after penalties and biases.

    The repetition penalty (Keskar et al., CTRL, 2019) divides positive and multiplies negative
    logits of every token of prompt and output; presence and frequency penalties are subtracted
    for tokens of the output, as the OpenAI API defines them.
    """
    params, logits = row.params, logits.clone()
    if params.repetition_penalty != 1.0:
        seen = torch.tensor(sorted({*row.prompt_tokens, *row.output_tokens}), device=logits.device)
        values = logits[seen]
        factor = params.repetition_penalty
        logits[seen] = torch.where(values > 0, values / factor, values * factor)
    counts = Counter(row.output_tokens)
    if counts and (params.presence_penalty or params.frequency_penalty):
        tokens = torch.tensor(list(counts), device=logits.device)
        often = torch.tensor(list(counts.values()), dtype=logits.dtype, device=logits.device)
        logits[tokens] -= params.presence_penalty + params.frequency_penalty * often
    for token, bias in params.logit_bias.items():
        logits[token] += bias
    return logits


def distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    """Probabilities [vocab] after temperature, top-k, top-p and min-p, in this order."""
    scaled = logits.double() / params.temperature
    if 0 < params.top_k < len(scaled):
        kept = scaled.topk(params.top_k).indices
        scaled = torch.full_like(scaled, -torch.inf).index_copy(0, kept, scaled[kept])
    probabilities = scaled.softmax(dim=-1)
    if params.top_p < 1:
        ordered, indices = probabilities.sort(descending=True, stable=True)
        before = ordered.cumsum(dim=-1) - ordered  # the token that passes top_p is kept
        probabilities = probabilities.index_fill(0, indices[before >= params.top_p], 0.0)
    if params.min_p > 0:
        floor = params.min_p * probabilities.max()
        probabilities = probabilities.where(probabilities >= floor, 0.0)
    return probabilities / probabilities.sum()


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that depends on both and on nothing else."""
    data = seed.to_bytes(8, "little") + position.to_bytes(8, "little")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little") / 2**64


def _draw(probabilities: Tensor, where: float) -> int:
    """The token in whose stretch of the cumulative distribution `where` falls."""
    cumulative = probabilities.cumsum(dim=-1)
    index = int(torch.searchsorted(cumulative, where * float(cumulative[-1]), right=True))
    last = int(probabilities.nonzero()[-1])
    return min(index, last)
