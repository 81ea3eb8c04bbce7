"""Whether a load should be disaggregated, from measured stages."""

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splitwise_core.policy.advice import Confidence, Verdict, Why, advise
from splitwise_core.policy.arrangements import Stages


def stages(
    rate: float = 2.0,
    prompt_s: float = 0.2,
    output: int = 100,
    hand_over_s: float = 0.02,
    step_s: float = 0.02,
    prompt_tokens: int = 1500,
    workers: tuple[int, int, int] = (2, 2, 0),
    requests: int = 500,
    transfers: int | None = None,
) -> Stages:
    """What a cluster without queues measures of `requests` alike, `rate` in a second."""
    moved = (requests if not workers[2] else 0) if transfers is None else transfers
    decode_s = moved * hand_over_s + (requests * (output - 1) - moved) * step_s
    return Stages(
        seconds=requests / rate,
        requests=requests,
        prompt_tokens=requests * prompt_tokens,
        output_tokens=requests * output,
        e2e_s=requests * prompt_s + decode_s,
        prefills=requests,
        prefill_s=requests * prompt_s,
        transfers=moved,
        transfer_s=moved * hand_over_s * 0.75,
        first_decode_s=moved * hand_over_s * 0.25,
        gaps=requests * (output - 1),
        gap_s=decode_s,
        prompt_workers=workers[0],
        token_workers=workers[1],
        mixed_workers=workers[2],
    )


@pytest.mark.parametrize(
    ("measured", "verdict", "why"),
    [
        pytest.param(
            stages(rate=9.0), Verdict.SPLIT, Why.END_TO_END, id="prompts would slow decoding"
        ),
        pytest.param(
            stages(rate=0.5, hand_over_s=3.0, output=20),
            Verdict.TOGETHER,
            Why.END_TO_END,
            id="a hand-over that takes longer than the answer",
        ),
        pytest.param(
            stages(rate=4.0, output=400, workers=(1, 9, 0)),
            Verdict.SPLIT,
            Why.TOKEN_TAIL,
            id="few prompts, and each would hold up a token",
        ),
        pytest.param(
            stages(rate=0.01, prompt_s=0.02, prompt_tokens=100),
            Verdict.EITHER,
            Why.NO_DIFFERENCE,
            id="next to no load",
        ),
        pytest.param(stages(rate=30.0), Verdict.UNKNOWN, Why.OVERLOADED, id="too much for all"),
        pytest.param(stages(requests=5), Verdict.UNKNOWN, Why.TOO_FEW_REQUESTS, id="five"),
        pytest.param(stages(workers=(0, 0, 1)), Verdict.UNKNOWN, Why.ONE_WORKER, id="one worker"),
        pytest.param(
            stages(rate=9.0, workers=(0, 0, 4)),
            Verdict.UNKNOWN,
            Why.NO_HAND_OVER_MEASURED,
            id="shared workers that know of no hand-over",
        ),
    ],
)
def test_a_verdict(measured: Stages, verdict: Verdict, why: Why) -> None:
    found = advise(measured)
    assert (found.verdict, found.why) == (verdict, why), found


@pytest.mark.parametrize(
    ("prompt_s", "output", "prompt_workers"),
    [
        pytest.param(0.4, 10, 7, id="long prompts and short answers"),
        pytest.param(0.05, 400, 1, id="short prompts and long answers"),
    ],
)
def test_workers_go_where_the_work_is(prompt_s: float, output: int, prompt_workers: int) -> None:
    busy = stages(rate=12.0, prompt_s=prompt_s, output=output, workers=(4, 4, 0))
    found = advise(busy).split
    assert found is not None
    assert found.prompt_workers + found.token_workers == 8
    assert abs(found.prompt_workers - prompt_workers) <= 1
    assert found.prompt_busy < 0.95


def test_the_numbers_are_those_of_one_request() -> None:
    found = advise(stages(rate=2.0))
    assert found.requests_per_s == pytest.approx(2.0)
    assert found.prompt_s == pytest.approx(0.2)
    assert found.hand_over_s == pytest.approx(0.02)
    assert found.step_s == pytest.approx(0.02)
    assert found.expected_e2e_s == pytest.approx(found.measured_e2e_s, rel=0.05)


@pytest.mark.parametrize(
    ("measured", "confidence"),
    [
        pytest.param(stages(rate=5.0), Confidence.HIGH, id="many, as the formulas say"),
        pytest.param(stages(rate=9.0, requests=60), Confidence.MEDIUM, id="some"),
        pytest.param(stages(rate=9.0, requests=30), Confidence.LOW, id="few"),
        pytest.param(
            replace(stages(rate=9.0), e2e_s=5000.0), Confidence.LOW, id="the formulas are wrong"
        ),
    ],
)
def test_confidence(measured: Stages, confidence: Confidence) -> None:
    assert advise(measured).confidence is confidence


def test_prompts_that_are_computed_together_are_less_work_than_they_take() -> None:
    crowded = stages(rate=30.0, prompt_s=0.2, prompt_tokens=100)
    assert advise(crowded).why is Why.OVERLOADED
    found = advise(replace(crowded, prompt_tokens_per_s=10_000.0))
    assert found.split is not None
    assert found.split.prompt_busy == pytest.approx(0.3 / found.split.prompt_workers)
    assert found.split.ttft_s >= 0.2


def test_counters_that_began_anew_tell_nothing() -> None:
    before, now = stages(requests=100), stages(requests=300)
    made = now.since(before)
    assert made is not None
    assert made.requests == 200
    assert made.prompt_workers == now.prompt_workers
    assert before.since(now) is None


@given(
    rate=st.floats(0.01, 20),
    prompt_s=st.floats(0.001, 2),
    output=st.integers(1, 500),
    step_s=st.floats(0.0, 0.1),
    cheap_s=st.floats(0, 1),
    more_s=st.floats(0, 5),
)
@example(rate=1.0, prompt_s=2.0, output=2, step_s=0.0, cheap_s=0.0, more_s=1.0)
@example(rate=6.0, prompt_s=0.25, output=1, step_s=0.0, cheap_s=0.0, more_s=1.0)
def test_a_dearer_hand_over_never_speaks_for_a_split(
    rate: float, prompt_s: float, output: int, step_s: float, cheap_s: float, more_s: float
) -> None:
    def verdict(hand_over_s: float) -> Verdict:
        found = stages(rate, prompt_s, output, hand_over_s, step_s)
        return advise(found).verdict

    if verdict(cheap_s) is Verdict.TOGETHER:
        assert verdict(cheap_s + more_s) is not Verdict.SPLIT


@given(
    st.integers(0, 10**6),
    st.floats(0.1, 10**5),
    st.lists(st.floats(0, 10**6), min_size=5, max_size=5),
    st.lists(st.integers(0, 10**6), min_size=5, max_size=5),
    st.lists(st.integers(0, 30), min_size=3, max_size=3),
)
def test_whatever_was_measured_there_is_an_answer(
    requests: int, seconds: float, sums: list[float], counts: list[int], workers: list[int]
) -> None:
    e2e_s, prefill_s, transfer_s, first_s, gap_s = sums
    prompt_tokens, output_tokens, prefills, transfers, gaps = counts
    found = advise(
        Stages(
            *(seconds, requests, prompt_tokens, output_tokens, e2e_s, prefills, prefill_s),
            *(transfers, transfer_s, first_s, gaps, gap_s, *workers),
        )
    )
    if found.split is not None:
        assert found.split.prompt_workers + found.split.token_workers == sum(workers)
