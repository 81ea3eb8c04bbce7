"""What a router remembers of where prompts went."""

from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.policy.prefixes import MAX_HOLDERS, PrefixIndex
from splitwise_core.prefix import block_names

texts = st.lists(st.integers(0, 2), max_size=12)


def names(text: list[int]) -> list[bytes]:
    return block_names(text, 2, b"key")


def common(a: list[int], b: list[int]) -> int:
    """Full blocks of two tokens with which both begin."""
    return next((i for i in range(7) if a[: 2 * i + 2] != b[: 2 * i + 2] or len(a) < 2 * i + 2), 6)


@given(st.lists(st.tuples(st.integers(0, 3), texts), max_size=12), texts)
def test_a_worker_has_the_longest_beginning_that_it_was_ever_sent(
    sent: list[tuple[int, list[int]]], asked: list[int]
) -> None:
    index = PrefixIndex()
    for worker, text in sent:
        index.note(worker, names(text))
    wanted = {
        worker: longest
        for worker in range(4)
        if (longest := max((common(text, asked) for w, text in sent if w == worker), default=0))
    }
    assert index.find(names(asked)) == wanted


@given(st.lists(st.lists(st.integers(0, 9), min_size=2, max_size=20), max_size=20))
def test_what_is_remembered_is_bounded_and_never_an_end_without_its_beginning(
    texts: list[list[int]],
) -> None:
    index = PrefixIndex(max_names=7)
    for text in texts:
        index.note(1, names(text))
        assert len(index) <= 7
        assert index.find(names(text)) == {1: min(len(text) // 2, 7)}


def test_of_many_workers_those_that_got_it_last_are_remembered() -> None:
    index = PrefixIndex()
    for worker in range(100):
        index.note(worker, names([1, 2]))
    assert set(index.find(names([1, 2]))) == set(range(100 - MAX_HOLDERS, 100))
