"""Which links a prompt worker measures next, in a period of 60 s and retries after 5 s."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.link_turns import PER_PERIOD, LinkTurns

PERIOD_S, RETRY_S = 60.0, 5.0
OWN = 0


def due(turns: LinkTurns, count: int, now_s: float = 0.0) -> list[int]:
    """Those of the token workers 1 to `count` whose turn it is."""
    return turns.due(dict.fromkeys(range(1, count + 1)), now_s, PERIOD_S, RETRY_S)


def noted(
    settled: Mapping[int, float], unsettled: Mapping[int, float], first: int = 0
) -> LinkTurns:
    """Links that were noted so many seconds before now, which is 0."""
    turns = LinkTurns(OWN, first)
    for links, is_settled in ((settled, True), (unsettled, False)):
        for token, age_s in sorted(links.items(), key=lambda link: -link[1]):
            turns.note(token, -age_s, is_settled)
    return turns


@pytest.mark.parametrize(
    ("count", "settled", "unsettled", "expected"),
    [
        pytest.param(2, {}, {}, [1, 2], id="those that were never measured"),
        pytest.param(3, {1: 5, 2: 61, 3: 90}, {}, [2, 3], id="those whose period is over"),
        pytest.param(2, {1: 5, 2: 59}, {}, [], id="none that is young"),
        pytest.param(9, {}, {}, [1, 2, 3, 4], id="a few at a time"),
        pytest.param(4, {1: 1, 2: 2, 3: 3}, {}, [4], id="as many as the period has left"),
        pytest.param(5, {1: 1, 2: 2, 3: 3, 4: 4}, {}, [], id="or none, when it has none left"),
        pytest.param(3, {3: 1}, {1: 9, 2: 9}, [1], id="one that fails, sooner"),
        pytest.param(2, {}, {1: 1, 2: 2}, [], id="but not at once"),
        pytest.param(6, dict.fromkeys(range(2, 6), 1), {1: 9}, [1], id="beyond the others"),
        pytest.param(2, {}, {3: 90, 1: 9}, [2, 1], id="and nobody who is not there"),
    ],
)
def test_links_that_are_due(
    count: int,
    settled: Mapping[int, float],
    unsettled: Mapping[int, float],
    expected: Sequence[int],
) -> None:
    assert due(noted(settled, unsettled), count) == expected


def test_prompt_workers_begin_with_different_token_workers() -> None:
    asked = [due(noted({}, {}, first), 9) for first in (0, PER_PERIOD)]
    assert asked == [[1, 2, 3, 4], [5, 6, 7, 8]]


def test_a_mixed_worker_measures_no_link_to_itself() -> None:
    assert LinkTurns(2, 0).due({1: None, 2: None, 3: None}, 0.0, PERIOD_S, RETRY_S) == [1, 3]


@given(st.integers(1, 60), st.integers(0, 60))
def test_every_link_has_its_turn(count: int, first: int) -> None:
    turns, seen = LinkTurns(OWN, first), set[int]()
    for period in range(-(-count // PER_PERIOD)):
        now_s = period * PERIOD_S
        chosen = due(turns, count, now_s)
        assert len(chosen) == min(count, PER_PERIOD)
        for token in chosen:
            turns.note(token, now_s, is_settled=True)
        seen |= set(chosen)
    assert len(seen) == count


WHAT = st.sampled_from(["asked", "works", "fails", "gone"])
NEWS = st.lists(st.tuples(st.floats(0, 20), st.integers(1, 12), WHAT), max_size=60)


@given(NEWS, st.integers(1, 12))
def test_whatever_is_told_no_link_is_measured_before_it_is_due_and_few_at_a_time(
    news: Sequence[tuple[float, int, str]], count: int
) -> None:
    turns, now_s = LinkTurns(OWN, 0), 0.0
    known: dict[int, tuple[float, bool]] = {}  # when it was noted, and whether it is settled
    for seconds, token, what in news:
        now_s += seconds
        if what == "gone":
            turns.forget(token)
            known.pop(token, None)
        elif what != "asked":
            known[token] = now_s, what == "works"
            turns.note(token, *known[token])
        chosen = due(turns, count, now_s) if what == "asked" else []
        young = [t for t, (at_s, settled) in known.items() if settled and now_s - at_s < PERIOD_S]
        retried = [t for t in chosen if not known.get(t, (0.0, True))[1]]
        assert not set(chosen) & set(young)
        assert len(set(chosen)) == len(chosen) <= max(0, PER_PERIOD - len(young)) + len(retried)
        assert len(retried) <= 1
        for one in chosen:
            at_s, settled = known.get(one, (-PERIOD_S, True))
            assert now_s - at_s >= (PERIOD_S if settled else RETRY_S)
            known[one] = now_s, settled
            turns.note(one, now_s, settled)
