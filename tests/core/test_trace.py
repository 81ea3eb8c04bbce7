"""Traces: what reads, what does not, and where the fault is."""

import pytest
from hypothesis import given
from hypothesis.strategies import builds, floats, integers, lists

from splitwise_core.errors import UserError
from splitwise_core.trace import Arrival, read_trace, write_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
SECONDS = "arrival_s,prompt_tokens,output_tokens"


def read(*lines: str) -> list[Arrival]:
    return list(read_trace(iter(f"{line}\r\n" for line in lines), "t.csv"))


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(
            [AZURE, "2023-11-16 18:17:03.9799600,4808,10", "2023-11-16 18:17:05.4799600,3180,8"],
            id="Azure 2023",
        ),
        pytest.param(
            [AZURE, "2024-05-12 23:59:59.5+00:00,4808,10", "2024-05-13 00:00:01+00:00,3180,8"],
            id="Azure 2024: with a zone, over midnight",
        ),
        pytest.param([SECONDS, "7,4808,10", "8.5,3180,8"], id="seconds"),
        pytest.param(
            ["id,output_tokens, arrival_s,prompt_tokens", "a,10,0,4808", "", "b,8,1.5,3180"],
            id="columns in another order, more of them, an empty line",
        ),
    ],
)
def test_both_forms_give_the_same_requests(lines: list[str]) -> None:
    first, second = read(*lines)
    assert first == Arrival(0.0, 4808, 10)
    assert (second.prompt_tokens, second.output_tokens) == (3180, 8)
    assert second.at_s == pytest.approx(1.5, abs=1e-6)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param([], "line 1: the header has nothing", id="an empty file"),
        pytest.param(["a,b"], "line 1: the header has a, b", id="another header"),
        pytest.param([SECONDS], "there is no request", id="a header alone"),
        pytest.param([SECONDS, "0,1"], "line 2: it has 2 fields", id="a field too few"),
        pytest.param([SECONDS, "0,1,1", "x,1,1"], "line 3, arrival_s: 'x'", id="no number"),
        pytest.param([SECONDS, "inf,1,1"], "line 2, arrival_s: 'inf'", id="infinity"),
        pytest.param([AZURE, "noon,1,1"], "line 2, TIMESTAMP: 'noon'", id="no point in time"),
        pytest.param([SECONDS, "0,1.5,1"], "prompt_tokens: '1.5'", id="half a token"),
        pytest.param([SECONDS, "0,1,-1"], "output_tokens: '-1'", id="less than nothing"),
        pytest.param([SECONDS, "0,0,1"], "prompt_tokens: '0' is", id="an empty prompt"),
        pytest.param([SECONDS, f"0,{'9' * 5000},1"], "prompt_tokens", id="far too many"),
        pytest.param([SECONDS, "1,1,1", "0.5,1,1"], "line 3: it arrives before", id="no order"),
        pytest.param([SECONDS, '0,"1,1'], "line 2", id="a quote without an end"),
    ],
)
def test_a_fault_is_told_with_its_line(lines: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        read(*lines)
    assert caught.value.code == "invalid-trace"
    assert "t.csv" in str(caught.value)
    assert told in str(caught.value)


@given(lists(builds(Arrival, floats(0, 1e6), integers(1, 1 << 24), integers(1, 9)), min_size=1))
def test_what_is_written_reads_as_it_was(arrivals: list[Arrival]) -> None:
    inorder = sorted(arrivals, key=lambda arrival: arrival.at_s)
    found = list(read_trace(write_trace(inorder), "t.csv"))
    assert len(found) == len(inorder)
    for was, now in zip(inorder, found, strict=True):
        assert now.at_s == pytest.approx(was.at_s - inorder[0].at_s, abs=2e-6)
        assert (now.prompt_tokens, now.output_tokens) == (was.prompt_tokens, was.output_tokens)


def test_a_trace_is_read_a_line_at_a_time() -> None:
    def endless():
        yield SECONDS
        number = 0
        while True:
            yield f"{number},1,1"
            number += 1

    requests = read_trace(endless(), "t.csv")
    assert [next(requests).at_s for _ in range(1000)][-1] == 999
