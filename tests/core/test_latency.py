"""Latency and power models: what they say of what was measured, between it and beyond."""

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists

from splitwise_core.latency import (
    DecodePoint,
    Fitting,
    PowerModel,
    PromptPoint,
    TransferPoint,
    fit_decode,
    fit_prompt,
    fit_transfer,
    prompt_slowdown,
    report_of,
)


def prompts(*times_s: float, length: int | None = None) -> list[PromptPoint]:
    """Prompts of 256, 512, 1024, ... tokens, one in a batch where no other length is given."""
    sizes = [256 << i for i in range(len(times_s))]
    return [PromptPoint(n, length or n, s) for n, s in zip(sizes, times_s)]


def test_a_size_that_was_measured_takes_the_median_of_what_it_took() -> None:
    repeats = [PromptPoint(1024, 1024, s) for s in (0.2, 0.21, 0.9)]
    model = fit_prompt([*prompts(0.06, 0.1), *repeats, PromptPoint(4096, 4096, 1.1)])
    assert model.seconds(512, 512) == pytest.approx(0.1)
    assert model.seconds(1024, 1024) == pytest.approx(0.21)
    assert model.seconds(4096, 4096) == pytest.approx(1.1)


def test_equally_many_tokens_take_what_prompts_of_their_length_took() -> None:
    long, short = prompts(0.06, 0.1, 0.2, 0.4), PromptPoint(2048, 256, 0.3)
    model = fit_prompt([*long, short])
    assert model.seconds(2048, 2048) == pytest.approx(0.4)
    assert model.seconds(2048, 256) == pytest.approx(0.3)
    assert 0.3 < model.seconds(2048, 700) < 0.4


def test_sizes_on_a_line_leave_it_nowhere() -> None:
    line = [PromptPoint(n, n, 0.03 + 1e-4 * n) for n in (128, 256, 512, 1024, 2048)]
    model = fit_prompt(line)
    for tokens in (64, 300, 1500, 2000):
        assert model.seconds(tokens, tokens) == pytest.approx(0.03 + 1e-4 * tokens, rel=1e-6)


@pytest.mark.parametrize(
    ("tokens", "expected"), [(255, True), (256, False), (2048, False), (2049, True)]
)
def test_a_batch_beyond_the_measured_ones_is_told(tokens: int, expected: bool) -> None:
    assert fit_prompt(prompts(0.06, 0.1, 0.2, 0.4)).is_extrapolated(tokens) is expected


@given(
    step=floats(0.001, 0.1),
    sequence=floats(1e-5, 1e-3),
    token=floats(1e-8, 1e-6),
)
def test_decoding_by_the_formula_is_found_again(step: float, sequence: float, token: float) -> None:
    shapes = [(1, 500), (1, 4000), (8, 4000), (32, 30_000), (64, 33_000)]
    points = [DecodePoint(n, c, step + sequence * n + token * c) for n, c in shapes]
    model = fit_decode(points)
    assert model.seconds(16, 10_000) == pytest.approx(
        step + 16 * sequence + 10_000 * token, rel=1e-5
    )
    assert not model.is_extrapolated(64, 33_000)
    assert model.is_extrapolated(65, 100)
    assert model.is_extrapolated(1, 33_001)


@given(times=lists(floats(0.01, 1.0), min_size=3, max_size=8), steps=integers(1, 50))
def test_whatever_was_measured_more_work_never_takes_less(times: list[float], steps: int) -> None:
    points = [DecodePoint(2**i, 700.0 * (i + 1) ** 2, s) for i, s in enumerate(times)]
    model = fit_decode(points)
    assert min(model.step_s, model.sequence_s, model.token_s) >= 0
    assert model.seconds(9, 5000) >= model.seconds(8, 5000) >= model.seconds(8, 4000)
    assert model.seconds_of(steps, 4, 100) == pytest.approx(
        sum(model.seconds(4, 100 + 4 * i) for i in range(steps))
    )


def test_a_link_has_a_latency_and_a_speed() -> None:
    link = fit_transfer([TransferPoint(n, 0.002 + n / 1e9) for n in (10**6, 10**8, 10**9)])
    assert link is not None
    assert link.latency_s == pytest.approx(0.002, rel=1e-3)
    assert link.bytes_per_s == pytest.approx(1e9, rel=1e-3)
    assert link.is_extrapolated(2e9)
    assert fit_transfer([TransferPoint(100, 0.1)] * 3) is None, "one size says nothing of the speed"


def test_a_cap_slows_prompts_alone() -> None:
    h100 = PowerModel(idle_w=75, prompt_w=700, token_w=380)
    half = h100.capped(0.5)
    assert h100.capped(1.0) == h100
    assert prompt_slowdown(1.0) == 1
    assert prompt_slowdown(0.5) == pytest.approx(1.3), "as was measured"
    assert (half.prompt_w, half.token_w, half.idle_w) == (350, 350, 75)
    assert half.joules(prompt_s=1, token_s=2, idle_s=4) == 350 + 700 + 300


@given(a=floats(0.5, 1), b=floats(0.5, 1))
def test_a_lower_cap_is_never_faster(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert prompt_slowdown(low) >= prompt_slowdown(high)


@pytest.mark.parametrize("square_s", [0.0, 0.2], ids=["without attention", "with it"])
def test_short_prompts_of_a_batch_attend_to_less_than_one_as_long(square_s: float) -> None:
    """As single prompts tell it by their growth, where no batch was measured."""

    def took_s(tokens: int, length: int) -> float:
        return 0.01 + 0.6 * tokens / 1000 + square_s * tokens * length / 1e6

    sizes = (100, 200, 400, 800)
    model = fit_prompt([PromptPoint(n, n, took_s(n, n)) for n in sizes])
    for tokens in sizes:
        assert model.seconds(tokens, tokens) == pytest.approx(took_s(tokens, tokens))
        assert model.seconds(tokens, 100) == pytest.approx(took_s(tokens, 100))


def test_where_batches_were_measured_they_say_what_they_take() -> None:
    singles = [PromptPoint(n, n, 0.1 * (n / 100) ** 2) for n in (100, 200, 400)]
    model = fit_prompt([*singles, PromptPoint(400, 100, 1.5)])
    assert model.seconds(400, 100) == pytest.approx(1.5)
    assert model.attention_s == 0


def test_a_fit_is_judged_on_sizes_that_it_did_not_see() -> None:
    """Times that are constant but for one size: only that one is foretold wrongly."""

    def mean(points: list[PromptPoint]) -> Fitting[PromptPoint]:
        sizes = [p.tokens for p in points]
        value = min(p.seconds for p in points)
        return Fitting(lambda _: value, lambda p: not min(sizes) <= p.tokens <= max(sizes))

    points = [PromptPoint(n, n, 1.0) for n in (1, 2, 4)] + [PromptPoint(8, 8, 2.0)]
    fit = report_of(points, mean, lambda p: p.seconds, lambda p: p.tokens)  # type: ignore[arg-type]
    assert fit.own == pytest.approx(0.5 / 4)
    assert [(s.size, s.error, s.extrapolated) for s in fit.sizes] == [
        (1, 0.0, True),
        (2, 0.0, False),
        (4, 0.0, False),
        (8, 0.5, True),
    ]
    assert fit.left_out == pytest.approx(0.125)


def test_where_too_little_was_measured_nothing_is_left_out() -> None:
    points = prompts(0.1, 0.2)
    fit = report_of(
        points,
        lambda some: Fitting(
            lambda p: fit_prompt(some).seconds(p.tokens, p.length), lambda _: False
        ),
        lambda p: p.seconds,
        lambda p: p.tokens,
    )
    assert fit.held_out is None
    assert fit.left_out is None
