"""What a router tells of the last seconds."""

from hypothesis import given
from hypothesis import strategies as st

from splitwise_router.intake import WINDOW_S, Lately

NOTES = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 1000)), max_size=60)


@given(NOTES, st.floats(0, 20))
def test_it_is_what_came_in_the_window_to_a_second(
    notes: list[tuple[float, int]], later_s: float
) -> None:
    lately, now_s = Lately(), 1000.0
    came: list[tuple[float, int]] = []
    for seconds, tokens in notes:
        now_s += seconds
        lately.note(tokens, now_s)
        came.append((now_s, tokens))
    now_s += later_s
    least = sum(tokens for at_s, tokens in came if at_s >= now_s - WINDOW_S + 1)
    most = sum(tokens for at_s, tokens in came if at_s > now_s - WINDOW_S)
    assert least <= lately.tokens(now_s) <= most
    assert len(lately._by_second) <= WINDOW_S + 1
