"""Who is turned away: a queue that is bounded in seconds, by what has been measured."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.admission import (
    COMMITTED_SHARE,
    FULL_STEP_TOKENS,
    LONGEST_RETRY_S,
    Pace,
    PromptSpeed,
    Speed,
    Waiting,
    is_committed,
    retry_after_s,
    too_late,
)

NOTHING_KNOWN = Pace()
HUNDRED_A_S = Pace(prompt_tokens_per_s=100)

lengths = st.integers(1, 5000)
waiting = st.builds(
    lambda prompt, answer, stays: Waiting(prompt, prompt + answer, stays),
    lengths,
    lengths,
    st.booleans(),
)
queues = st.lists(waiting, max_size=30)
speeds = st.one_of(st.just(0.0), st.floats(0.1, 1e6))
paces = st.builds(Pace, st.floats(0, 100), speeds, speeds)
limits = st.floats(0.1, 600)


def prompts(*tokens: int) -> list[Waiting]:
    return [Waiting(count, count) for count in tokens]


@pytest.mark.parametrize(
    ("queue", "pace", "late"),
    [
        pytest.param(prompts(400, 400, 400), HUNDRED_A_S, [], id="all begin within ten seconds"),
        pytest.param(prompts(600, 600, 600), HUNDRED_A_S, [2], id="the last would wait for 12 s"),
        pytest.param(
            prompts(400, 400, 400),
            replace(HUNDRED_A_S, backlog_s=5),
            [2],
            id="what the workers have counts",
        ),
        pytest.param(
            [Waiting(10, 2000), Waiting(10, 2000)],
            Pace(prompt_tokens_per_s=100, tokens_per_s=100),
            [1],
            id="short prompts wait where long answers are decoded",
        ),
        pytest.param(
            [Waiting(2000, 2000), Waiting(9, 9), Waiting(9, 9, stays=True)],
            HUNDRED_A_S,
            [1],
            id="a retry stays",
        ),
    ],
)
def test_nobody_waits_above_ten_seconds(queue: list[Waiting], pace: Pace, late: list[int]) -> None:
    assert too_late(queue, pace, 10.0) == late


@given(queues, limits)
def test_what_is_not_measured_turns_nobody_away(queue: list[Waiting], limit_s: float) -> None:
    assert too_late(queue, NOTHING_KNOWN, limit_s) == []


@given(waiting, paces, limits)
def test_the_next_one_is_never_late_while_a_worker_is_idle(
    only: Waiting, pace: Pace, limit_s: float
) -> None:
    assert too_late([only], replace(pace, backlog_s=0.0), limit_s) == []


@given(queues, paces, limits)
def test_who_is_kept_is_expected_to_be_in_time(
    queue: list[Waiting], pace: Pace, limit_s: float
) -> None:
    late = set(too_late(queue, pace, limit_s))
    prompt_tokens = tokens = 0
    for index, one in enumerate(queue):
        if index in late:
            assert not one.stays
            continue
        assert one.stays or pace.wait_s(prompt_tokens, tokens) <= limit_s
        prompt_tokens, tokens = prompt_tokens + one.prompt_tokens, tokens + one.tokens


@given(queues, paces, limits)
def test_the_last_ones_are_turned_away(queue: list[Waiting], pace: Pace, limit_s: float) -> None:
    leave = [index for index, one in enumerate(queue) if not one.stays]
    late = too_late(queue, pace, limit_s)
    assert late == leave[len(leave) - len(late) :]


@given(queues, paces, limits)
def test_who_turned_some_away_turns_no_more_away(
    queue: list[Waiting], pace: Pace, limit_s: float
) -> None:
    late = set(too_late(queue, pace, limit_s))
    assert too_late([one for i, one in enumerate(queue) if i not in late], pace, limit_s) == []


@given(queues, paces, limits, st.floats(1, 10))
def test_a_longer_limit_turns_no_more_away(
    queue: list[Waiting], pace: Pace, limit_s: float, times: float
) -> None:
    assert set(too_late(queue, pace, limit_s * times)) <= set(too_late(queue, pace, limit_s))


@given(paces, lengths, lengths, lengths)
def test_more_before_one_never_means_a_shorter_wait(
    pace: Pace, prompt_tokens: int, answer: int, more: int
) -> None:
    before_s = pace.wait_s(prompt_tokens, prompt_tokens + answer)
    assert pace.backlog_s <= before_s
    assert before_s <= pace.wait_s(prompt_tokens + more, prompt_tokens + more + answer)


@given(st.floats(0, 1e9), limits)
def test_a_time_to_come_back_is_whole_seconds_and_bounded(wait_s: float, limit_s: float) -> None:
    after_s = retry_after_s(wait_s, limit_s)
    assert 1 <= after_s <= LONGEST_RETRY_S
    assert after_s == LONGEST_RETRY_S or wait_s - after_s <= limit_s


@given(speeds, limits)
def test_an_idle_worker_takes_whatever_comes(tokens_per_s: float, limit_s: float) -> None:
    assert not is_committed(0, tokens_per_s, limit_s)


def test_a_worker_gets_no_more_than_its_share_of_the_wait() -> None:
    share = int(COMMITTED_SHARE * 1000)  # tokens, of ten seconds of a hundred
    assert not is_committed(share, 100.0, 10.0)
    assert is_committed(share + 1, 100.0, 10.0)
    assert not is_committed(10**9, 0.0, 10.0), "its speed is not known"


def test_a_speed_is_all_tokens_over_all_seconds() -> None:
    speed = Speed()
    assert speed.tokens_per_s == 0
    for _ in range(100):
        speed.note(300, 1.0)
        speed.note(0, 2.0)
    assert speed.tokens_per_s == pytest.approx(100, rel=0.1)


@given(st.floats(1, 1e6), st.floats(1, 1e6))
def test_a_speed_forgets_what_was_long_ago(before: float, now: float) -> None:
    speed = Speed()
    for tokens_per_s in [before] * 20 + [now] * 200:
        speed.note(1000, 1000 / tokens_per_s)
    assert speed.tokens_per_s == pytest.approx(now, rel=0.01)


def test_a_short_prompt_says_nothing_of_how_fast_long_ones_are() -> None:
    speed = PromptSpeed(step_tokens=2048)
    speed.computed(FULL_STEP_TOKENS - 1, 5.0)
    assert speed.tokens_per_s == 0
    speed.computed(FULL_STEP_TOKENS, 1.0)
    assert speed.tokens_per_s == FULL_STEP_TOKENS


def test_small_steps_count_where_there_are_no_larger_ones() -> None:
    speed = PromptSpeed(step_tokens=16)
    speed.computed(16, 1.0)
    assert speed.tokens_per_s == 16


def test_decode_steps_between_prompts_make_a_worker_slower() -> None:
    speed = PromptSpeed(step_tokens=2048)
    speed.decoded(9.0, prompts_wait=False)  # before the prompt came: not its wait
    speed.computed(1000, 1.0)
    assert speed.tokens_per_s == 1000
    for _ in range(200):
        speed.decoded(1.0, prompts_wait=True)
        speed.computed(1000, 1.0)
    assert speed.tokens_per_s == pytest.approx(500)
