"""Text grows by whole characters, and no part of a stop string is ever sent."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_router.text.stream import TextStream


class Bytes:
    """The plainest tokenizer there is: a token is a byte."""

    def decode(self, tokens: Sequence[int]) -> str:
        return bytes(tokens).decode("utf-8", errors="replace")


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


def run(text: TextStream, pieces: Sequence[bytes]) -> tuple[list[str], str]:
    """What was sent step by step, and in the end."""
    sent = [text.push(list(piece)) for piece in pieces]
    return sent, text.finish()


@given(st.text(), st.lists(st.integers(0, 500), max_size=12))
def test_any_text_in_any_pieces_comes_out_as_it_was(text: str, cuts: list[int]) -> None:
    sent, rest = run(TextStream(Bytes(), ()), split(text.encode(), cuts))
    assert "".join(sent) + rest == text


@given(st.text(alphabet="aé€😀"), st.lists(st.integers(0, 60), max_size=12))
def test_a_character_is_sent_whole(text: str, cuts: list[int]) -> None:
    sent, _ = run(TextStream(Bytes(), ()), split(text.encode(), cuts))
    assert not any("\ufffd" in piece for piece in sent)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_text_are_not_held_for_ever(data: bytes) -> None:
    sent, rest = run(TextStream(Bytes(), ()), [bytes([byte]) for byte in data])
    assert len(rest) <= 9
    assert len("".join(sent) + rest) <= len(data)


stop_strings = st.lists(st.text(alphabet="ab€", min_size=1, max_size=4), min_size=1, max_size=4)


@given(
    st.text(alphabet="abc€", max_size=40), stop_strings, st.lists(st.integers(0, 90), max_size=20)
)
def test_text_ends_before_the_earliest_stop_string(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    stream = TextStream(Bytes(), tuple(stops))
    sent, rest = run(stream, split(text.encode(), cuts))
    # Which of several overlapping stop strings comes first depends on when their ends arrive.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    out = "".join(sent) + rest
    assert text.startswith(out)
    assert stream.stopped == bool(ends)
    if ends:
        assert not any(stop in out for stop in stops)
        assert any(text.startswith(stop, len(out)) for stop in stops)
    else:
        assert out == text


def test_what_may_become_a_stop_string_is_held_back() -> None:
    stream = TextStream(Bytes(), ("END",))
    assert [stream.push(list(piece)) for piece in (b"x E", b"N", b"o E", b"ND y")] == [
        "x ",
        "",
        "ENo ",
        "",
    ]
    assert stream.stopped
    assert stream.push(list(b"more")) == ""
    assert stream.finish() == ""


def test_what_was_held_back_is_sent_when_nothing_follows() -> None:
    stream = TextStream(Bytes(), ("END",))
    assert stream.push(list(b"x EN")) == "x "
    assert stream.finish() == "EN"


@pytest.mark.parametrize("tokens", [[], [0xE2], [0xE2, 0x82]], ids=["none", "one byte", "two"])
def test_an_incomplete_character_at_the_end_is_replaced(tokens: list[int]) -> None:
    stream = TextStream(Bytes(), ())
    assert stream.push(tokens) == ""
    assert stream.finish() == ("\ufffd" if tokens else "")
