"""The models of a machine's phases, fitted to its measured times, and how well they foretell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from splitwise_core.errors import UserError
from splitwise_core.latency import (
    DecodeModel,
    DecodePoint,
    Fit,
    Fitting,
    PromptModel,
    PromptPoint,
    fit_decode,
    fit_prompt,
    report_of,
)
from splitwise_planner.phase_times import Key, Shape, shapes_of

IMPOSSIBLE: Final = 0.5
"""A larger batch that took less than this share of a smaller one's time was not computed whole: of
the published times, 64 prompts of Llama2-70B on two GPUs took an eighth of what 32 of them took."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What a worker of some GPUs takes. `left_out` says which shapes were not believed, and why."""

    key: Key
    prompt: PromptModel
    decode: DecodeModel
    prompt_points: tuple[PromptPoint, ...]
    decode_points: tuple[DecodePoint, ...]
    left_out: tuple[str, ...]

    def fits(self) -> tuple[Fit, Fit]:
        """How wrong both models are: prompts, then decoding."""
        return (
            report_of(self.prompt_points, _prompts, _prompt_s, lambda point: point.tokens),
            report_of(
                self.decode_points,
                _steps,
                _step_s,
                lambda point: (point.sequences, point.context),
            ),
        )


def profile_of(
    times: dict[Key, list[Shape]], model: str, gpu: str, tensor_parallel: int
) -> Profile:
    """The models fitted to what was measured. Raises UserError (invalid-phase-times) where that is
    not enough."""
    shapes = shapes_of(times, model, gpu, tensor_parallel)
    believed, left_out = _believed(shapes)
    prompts = tuple(
        PromptPoint(shape.prompt_tokens * shape.sequences, shape.prompt_tokens, value / 1000)
        for shape in _as_loaded(believed)
        for value in shape.prompt_ms
    )
    steps = tuple(
        DecodePoint(shape.sequences, context_of(shape), value / 1000)
        for shape in believed
        for value in shape.token_ms
    )
    where = f"{model} on {gpu}, tensor-parallel {tensor_parallel}"
    if len({point.tokens for point in prompts}) < 2 or not steps:
        raise UserError(
            "invalid-phase-times",
            where=where,
            wrong="lacks times to fit: two sizes of prompts and a step of decoding",
            fix="measure more shapes",
        )
    key = model, gpu, tensor_parallel
    return Profile(key, fit_prompt(prompts), fit_decode(steps), prompts, steps, left_out)


def context_of(shape: Shape) -> float:
    """Tokens in all sequences of a batch, in the middle of what each decoded."""
    return shape.sequences * (shape.prompt_tokens + shape.output_tokens / 2)


def _believed(shapes: Sequence[Shape]) -> tuple[list[Shape], tuple[str, ...]]:
    """The shapes that can have been computed as they say, and what is wrong with the others."""
    believed, left_out = [], []
    for shape in shapes:
        smaller = next((s for s in shapes if _is_impossible(shape, s)), None)
        if smaller is None:
            believed.append(shape)
            continue
        took, less = min(shape.prompt_ms), min(smaller.prompt_ms)
        left_out.append(
            f"{shape.sequences} x {shape.prompt_tokens} tokens are left out: {took:.0f} ms, where "
            f"{smaller.sequences} x {smaller.prompt_tokens} took {less:.0f} ms"
        )
    return believed, tuple(left_out)


def _as_loaded(shapes: Sequence[Shape]) -> list[Shape]:
    """The shapes that tell how long prompts take: of a size that was measured while others decoded,
    which then has no times of decoding its own, not what it took by itself."""
    loaded = {_size(shape) for shape in shapes if shape.prompt_ms and not shape.token_ms}
    return [shape for shape in shapes if not shape.token_ms or _size(shape) not in loaded]


def _size(shape: Shape) -> tuple[int, int]:
    return shape.prompt_tokens, shape.sequences


def _is_impossible(shape: Shape, smaller: Shape) -> bool:
    """Whether a batch took far less than one of no more prompts, no longer ones."""
    if not shape.prompt_ms or not smaller.prompt_ms:
        return False
    is_smaller = (
        smaller.sequences <= shape.sequences and smaller.prompt_tokens <= shape.prompt_tokens
    )
    return is_smaller and max(shape.prompt_ms) < IMPOSSIBLE * min(smaller.prompt_ms)


def _prompts(points: Sequence[PromptPoint]) -> Fitting[PromptPoint]:
    model = fit_prompt(points)
    return Fitting(
        lambda point: model.seconds(point.tokens, point.length),
        lambda point: model.is_extrapolated(point.tokens),
    )


def _steps(points: Sequence[DecodePoint]) -> Fitting[DecodePoint]:
    model = fit_decode(points)
    return Fitting(
        lambda point: model.seconds(point.sequences, point.context),
        lambda point: model.is_extrapolated(point.sequences, point.context),
    )


def _prompt_s(point: PromptPoint) -> float:
    return point.seconds


def _step_s(point: DecodePoint) -> float:
    return point.seconds
