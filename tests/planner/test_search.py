"""The search for the cheapest pair of counts, on loads that are known everywhere."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, sampled_from, tuples

from splitwise_planner.search import Limit, Pair, Search

EVERYWHERE = Limit(1, 1, 60)


def work(prompt: float, other: float, both: float) -> Callable[[Pair], float]:
    """The load where each phase has its work, and some can go to either."""

    def load(pair: Pair) -> float:
        return max(prompt / max(pair.prompt, 0.1), other / pair.other, both / sum(pair))

    return load


def cheapest(load: Callable[[Pair], float], goal: Limit, limits: list[Limit]) -> float | None:
    """The least sum of all good pairs, by trying them all."""
    pairs = [Pair(p, t) for p in range(1, 60) for t in range(1, 60)]
    within = [pair for pair in pairs if all(limit.sum_of(pair) <= limit.most for limit in limits)]
    return min((goal.sum_of(pair) for pair in within if load(pair) < 1), default=None)


@given(
    load=tuples(floats(0.5, 25), floats(0.5, 25), floats(0, 40)).map(lambda need: work(*need)),
    goal=sampled_from([Limit(1, 1), Limit(38.08, 17.68), Limit(44, 30.8), Limit(1, 7)]),
    most=integers(2, 60),
)
def test_the_best_pair_is_that_of_trying_all(
    load: Callable[[Pair], float], goal: Limit, most: int
) -> None:
    limits = [EVERYWHERE, Limit(1, 1, most)]
    search = Search(load, goal, limits, splits=True)
    found = search.best()
    assert (None if found is None else goal.sum_of(found)) == cheapest(load, goal, limits)
    assert all(limit.sum_of(pair) <= limit.most for pair in search.tried for limit in limits)


def test_few_pairs_are_tried() -> None:
    search = Search(work(26, 3, 0), Limit(1, 1), [EVERYWHERE], splits=True)
    assert search.best() == Pair(27, 4)
    assert len(search.tried) < 60, "of 1,770"


def test_near_the_limit_a_failure_says_nothing_of_smaller_pairs() -> None:
    def load(pair: Pair) -> float:
        by_chance = pair == Pair(5, 5)
        return 1.01 if by_chance else work(4.5, 3.5, 0)(pair)

    assert Search(load, Limit(1, 1), [EVERYWHERE], splits=True).best() == Pair(5, 4)


@given(
    load=tuples(floats(0.5, 25), floats(0.5, 25), floats(0, 40)).map(lambda need: work(*need)),
    prompt=integers(1, 40),
    other=integers(1, 40),
)
def test_within_a_cluster_only_its_parts_are_tried(
    load: Callable[[Pair], float], prompt: int, other: int
) -> None:
    search = Search(load, Limit(1, 1), [EVERYWHERE], splits=True, within=Pair(prompt, other))
    found = search.best()
    pairs = [Pair(p, t) for p in range(1, prompt + 1) for t in range(1, other + 1)]
    good = [sum(pair) for pair in pairs if sum(pair) <= 60 and load(pair) < 1]
    assert (None if found is None else sum(found)) == min(good, default=None)
    assert set(search.tried) - {search.within} <= set(pairs)


@pytest.mark.parametrize("least", [1, 2, 7, 59])
def test_a_baseline_has_one_count(least: int) -> None:
    search = Search(lambda pair: (least - 0.5) / pair.other, Limit(2, 2), [EVERYWHERE], False)
    assert search.best() == Pair(0, least)
    assert len(search.tried) <= 16


def test_what_is_never_good_is_not_found() -> None:
    search = Search(lambda _: 1.5, Limit(1, 1), [EVERYWHERE], splits=True)
    assert search.best() is None
    assert search.tried, "it was tried"


def test_budgets_that_allow_nothing_leave_nothing_to_try() -> None:
    search = Search(lambda _: 0.5, Limit(1, 1), [Limit(38.08, 38.08, 50)], splits=True)
    assert search.best() is None
    assert not search.tried
