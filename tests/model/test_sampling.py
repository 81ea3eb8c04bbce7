"""Which tokens can be drawn, how often, and what a draw depends on."""

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitwise_worker import sampling
from splitwise_worker.sampling import SampleInput, SamplingParams, distribution, sample, uniform

# Not subnormal: a thread that flushes those to zero sees a tie where Python sees an order.
LOGITS = st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=2, max_size=30).map(
    torch.tensor
)
ANY_PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    top_k=st.integers(0, 12),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 1),
    repetition_penalty=st.floats(0.5, 2),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    seed=st.integers(0, 2**64 - 1),
    logprobs=st.none() | st.integers(0, 40),
)


def row(
    params: SamplingParams, prompt: tuple[int, ...] = (), output: tuple[int, ...] = ()
) -> SampleInput:
    return SampleInput(params, prompt, output, position=len(prompt) + len(output))


def support(logits: torch.Tensor, **params: Any) -> set[int]:
    weights = distribution(logits, SamplingParams(**{"temperature": 1.0, **params}))
    return {int(token) for token in weights.nonzero()}


@given(logits=LOGITS, params=ANY_PARAMS, position=st.integers(0, 5000), beside=st.randoms())
def test_a_draw_is_the_same_in_any_batch(
    logits: torch.Tensor, params: SamplingParams, position: int, beside: random.Random
) -> None:
    asked = SampleInput(params, (0, 1), (1,), position)
    alone = sample(logits[None], [asked])[0]
    others = [row(SamplingParams(temperature=1.0, seed=seed), (0,)) for seed in range(3)]
    place = beside.randrange(4)
    rows = [*others[:place], asked, *others[place:]]
    noise = torch.randn(4, len(logits))
    noise[place] = logits
    assert sample(noise, rows)[place] == alone


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40))
def test_a_draw_depends_on_seed_and_position(seed: int, position: int) -> None:
    here = uniform(seed, position)
    assert 0 <= here < 1
    assert here == uniform(seed, position)
    assert here != uniform(seed, position + 1)
    assert here != uniform((seed + 1) % 2**64, position)


def test_draws_follow_the_distribution() -> None:
    wanted = torch.tensor([0.6, 0.3, 0.1, 0.0])
    params = SamplingParams(temperature=1.0, seed=11)
    rows = [SampleInput(params, (), (), position) for position in range(4000)]
    counts = Counter(drawn.token for drawn in sample(wanted.log().expand(4000, 4), rows))
    for token, share in enumerate(wanted.tolist()):
        assert abs(counts[token] / 4000 - share) < 4 * math.sqrt(0.25 / 4000)
    assert counts[3] == 0


@given(LOGITS, st.integers(1, 12))
def test_top_k_leaves_the_k_likeliest(logits: torch.Tensor, k: int) -> None:
    kept = support(logits, top_k=k)
    assert len(kept) == min(k, len(logits))
    least = min(float(logits[token]) for token in kept)
    assert sum(float(value) > least for value in logits) <= k


@given(LOGITS, st.floats(0.05, 0.999))
def test_top_p_leaves_the_fewest_tokens_that_reach_it(logits: torch.Tensor, p: float) -> None:
    probabilities = logits.double().softmax(-1)
    kept = sorted(float(probabilities[token]) for token in support(logits, top_p=p))
    assert sum(kept) >= p - 1e-9
    assert sum(kept[1:]) < p + 1e-9


def test_top_p_counts_what_top_k_left() -> None:
    logits = torch.tensor([0.4, 0.2, 0.2, 0.2]).log()
    # of the first two alone, the first holds two thirds
    assert support(logits, top_k=2, top_p=0.6) == {0}
    assert len(support(logits, top_p=0.6)) == 2


@given(LOGITS, st.floats(0.01, 1))
def test_min_p_leaves_tokens_by_their_ratio_to_the_likeliest(
    logits: torch.Tensor, min_p: float
) -> None:
    probabilities = logits.double().softmax(-1)
    kept = support(logits, min_p=min_p)
    for token, probability in enumerate((probabilities / probabilities.max()).tolist()):
        if abs(probability - min_p) > 1e-9:
            assert (token in kept) == (probability > min_p)


@given(LOGITS, ANY_PARAMS)
def test_the_likeliest_token_survives_every_cut(
    logits: torch.Tensor, params: SamplingParams
) -> None:
    if params.temperature:
        weights = distribution(logits, params)
        assert float(weights.sum()) == pytest.approx(1)
        assert weights[int(logits.argmax())] > 0 or params.top_k  # top-k breaks ties its own way


def greedy(logits: list[float], prompt: tuple[int, ...], output: tuple[int, ...], **p: Any) -> int:
    return sample(torch.tensor([logits]), [row(SamplingParams(**p), prompt, output)])[0].token


def test_the_repetition_penalty_covers_prompt_and_output() -> None:
    assert greedy([2.0, 1.5, 0.0], (0,), (), repetition_penalty=2.0) == 1
    assert greedy([2.0, 1.5, 0.0], (), (0,), repetition_penalty=2.0) == 1
    assert greedy([-1.0, -1.5], (0,), (), repetition_penalty=2.0) == 1, "negative logits sink too"


def test_presence_counts_once_and_frequency_every_time_of_the_output_alone() -> None:
    assert greedy([2.0, 1.5], (0, 0, 0), (), presence_penalty=2.0, frequency_penalty=2.0) == 0
    assert greedy([2.0, 1.5], (), (0, 0), presence_penalty=0.4) == 0
    assert greedy([2.0, 1.5], (), (0,), frequency_penalty=0.4) == 0
    assert greedy([2.0, 1.5], (), (0, 0), frequency_penalty=0.4) == 1


def test_a_bias_is_added_to_its_token() -> None:
    assert greedy([2.0, 1.5], (), (), logit_bias={1: 1.0}) == 1


@given(LOGITS, ANY_PARAMS)
def test_logprobs_are_those_of_the_model_whatever_else_is_asked(
    logits: torch.Tensor, params: SamplingParams
) -> None:
    before = logits.clone()
    drawn = sample(logits[None], [row(params, (0,), (1, 1))])[0]
    assert torch.equal(logits, before)
    if params.logprobs is None:
        assert drawn.top == ()
        return
    raw = logits.log_softmax(-1)
    assert drawn.logprob == float(raw[drawn.token])
    assert len(drawn.top) == min(params.logprobs, len(logits))
    values = [value for _, value in drawn.top]
    assert values == sorted((float(value) for value in raw), reverse=True)[: len(values)]
    assert all(value == float(raw[token]) for token, value in drawn.top)


def test_of_equals_the_smaller_ids_are_kept() -> None:
    logits = torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0, 1.0])
    assert support(logits, top_k=2) == {1, 3}
    assert support(logits, top_k=4) == {0, 1, 3, 5}
    assert support(torch.zeros(10), top_p=0.25) == {0, 1, 2}
    assert support(torch.zeros(10), top_k=5, top_p=0.5) == {0, 1, 2}


@pytest.mark.parametrize("cut", [{}, {"top_p": 0.9}, {"top_k": 50}, {"min_p": 0.1}], ids=str)
def test_a_draw_is_the_same_however_many_rows_are_computed_together(
    cut: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(2)
    logits = torch.randn(9, 3000) * 3
    rows = [row(SamplingParams(temperature=0.8, seed=seed, **cut)) for seed in range(9)]
    together = sample(logits, rows)
    monkeypatch.setattr(sampling, "_CHUNK_ELEMENTS", 6000)
    assert sample(logits, rows) == together
    assert [sample(logits[i : i + 1], rows[i : i + 1])[0] for i in range(9)] == together


@pytest.mark.parametrize(
    "broken",
    [[math.nan, 1.0], [1.0, math.nan], [math.inf, 1.0], [-math.inf, -math.inf]],
    ids=["NaN first", "NaN last", "infinite", "nothing possible"],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0], ids=["greedy", "drawn"])
def test_a_row_that_is_not_finite_has_no_token_and_the_others_have_theirs(
    broken: list[float], temperature: float
) -> None:
    rows = [row(SamplingParams(temperature=temperature, logprobs=1))] * 3
    first, none, last = sample(torch.tensor([[9.0, 0.0], broken, [9.0, 0.0]]), rows)
    assert none is None
    assert first == last is not None


def test_what_the_model_rules_out_is_never_drawn() -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf]])
    for seed in range(50):
        asked = SamplingParams(temperature=1.0, seed=seed, top_k=2, top_p=0.99)
        assert sample(logits, [row(asked)])[0].token == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -0.1),
        ("temperature", math.nan),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", 1.1),
        ("repetition_penalty", 0.0),
        ("presence_penalty", math.inf),
        ("frequency_penalty", math.nan),
        ("logprobs", -1),
        ("logprobs", 257),
        ("max_tokens", 0),
        ("logit_bias", {3: math.inf}),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        SamplingParams(**{field: value})
