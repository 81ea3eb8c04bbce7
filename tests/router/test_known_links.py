"""What is kept of links is as if it were counted anew, whatever was told and whoever has gone."""

from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.link import Link
from splitwise_router.known_links import KnownLinks

workers = st.integers(1, 5)
told = st.tuples(workers, workers, st.booleans())
gone = workers


@given(st.lists(st.one_of(told, gone), max_size=40))
def test_whom_links_fail_and_who_is_cut_off(history: list[tuple[int, int, bool] | int]) -> None:
    kept, plain = KnownLinks(), dict[tuple[int, int], bool]()
    for one in history:
        if isinstance(one, int):
            kept.forget(one)
            plain = {pair: fails for pair, fails in plain.items() if one not in pair}
        else:
            prompt, token, fails = one
            kept.take(prompt, token, Link(0.001, 1e6, fails))
            plain[prompt, token] = fails
    found = {(a, b): link.failing for a, to in kept.between.items() for b, link in to.items()}
    assert found == plain
    failing = {(a, b) for a, to in kept.failing.items() for b in to}
    assert failing == {pair for pair, fails in plain.items() if fails}
    broken = {worker for pair, fails in plain.items() if fails for worker in pair}
    working = {worker for pair, fails in plain.items() if not fails for worker in pair}
    assert kept.cut_off == broken - working
