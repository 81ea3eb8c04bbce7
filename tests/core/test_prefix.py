"""Names of blocks: equal for equal beginnings, and for nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from splitwise_core.prefix import NAME_BYTES, block_names

KEY = b"one model's"
tokens = st.lists(st.integers(0, 3), max_size=40)
sizes = st.integers(1, 8)


@given(tokens, sizes)
def test_every_full_block_has_a_name_and_no_other(text: list[int], size: int) -> None:
    names = block_names(text, size, KEY)
    assert len(names) == len(text) // size
    assert all(len(name) == NAME_BYTES for name in names)
    assert len(set(names)) == len(names), "where a block stands is part of its name"


@given(tokens, tokens, sizes)
def test_names_are_the_same_as_far_as_the_tokens_are(a: list[int], b: list[int], size: int) -> None:
    for at, (one, other) in enumerate(zip(block_names(a, size, KEY), block_names(b, size, KEY))):
        end = (at + 1) * size
        assert (one == other) == (a[:end] == b[:end])


@given(tokens, sizes, st.integers(0, 5))
def test_names_that_are_known_are_gone_on_from(text: list[int], size: int, known: int) -> None:
    names = block_names(text, size, KEY)
    assert block_names(text, size, KEY, names[:known]) == names


@given(st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4))
def test_another_key_gives_other_names(text: list[int]) -> None:
    assert block_names(text, 4, KEY) != block_names(text, 4, b"another's")
