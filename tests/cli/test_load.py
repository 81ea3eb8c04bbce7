"""What the load laboratory draws, scales and counts: no clock, no socket."""

import random
from itertools import islice, pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, floats, integers, lists, sampled_from

from splitwise_cli.bench.answers import Answer, Asked, Outcome
from splitwise_cli.bench.arrivals import alike, arrival_times, fitted, limited, scaled
from splitwise_cli.bench.events import EventReader, NoEvent
from splitwise_cli.bench.sketch import ERROR, Sketch
from splitwise_cli.bench.summary import MOST_PROBLEMS, Slo, Summary
from splitwise_core.trace import Arrival

rates = floats(0.01, 1000)
sizes = integers(1, 100_000)


@given(
    rate=rates,
    burst=integers(1, 9),
    seed=integers(0, 99),
    kind=sampled_from(["poisson", "constant"]),
)
def test_arrivals_never_go_back_and_the_same_seed_gives_the_same(rate, burst, seed, kind):
    def times():
        return list(islice(arrival_times(rate, kind, burst, random.Random(seed)), 50))

    assert times() == times()
    assert times() == sorted(times())
    assert times()[0] == 0
    assert all(len(set(times()[at : at + burst])) == 1 for at in range(0, 50 - burst, burst))


@pytest.mark.parametrize("kind", ["poisson", "constant"])
@pytest.mark.parametrize("burst", [1, 20])
def test_as_many_arrive_as_the_rate_says(kind, burst):
    *_, last_s = islice(arrival_times(50, kind, burst, random.Random(1)), 40_000)
    assert 40_000 / last_s == pytest.approx(50, rel=0.08)


def test_poisson_arrivals_differ_as_much_as_they_must():
    times = list(islice(arrival_times(10, "poisson", 1, random.Random(2)), 20_000))
    gaps = [b - a for a, b in pairwise(times)]
    mean = sum(gaps) / len(gaps)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert variance == pytest.approx(mean**2, rel=0.05), "exponential: as wide as they are long"


@given(
    gaps=lists(floats(0, 100), min_size=1, max_size=20),
    time_scale=floats(0.01, 100),
    length_scale=floats(0.001, 10),
    prompt=sizes,
    output=sizes,
)
def test_scaling_keeps_order_number_and_at_least_one_token(
    gaps, time_scale, length_scale, prompt, output
):
    times = [sum(gaps[:count]) for count in range(len(gaps))]
    load = list(scaled(alike(times, prompt, output), time_scale, length_scale))
    assert [arrival.at_s for arrival in load] == [at_s * time_scale for at_s in times]
    assert {arrival.prompt_tokens for arrival in load} == {max(1, round(prompt * length_scale))}
    assert {arrival.output_tokens for arrival in load} == {max(1, round(output * length_scale))}


def test_a_load_ends_by_number_or_by_time():
    endless = [Arrival(float(at), 1, 1) for at in range(100)]
    assert len(list(limited(endless, 7, None))) == 7
    assert len(list(limited(endless, None, 7.5))) == 8
    assert len(list(limited(endless, 3, 7.5))) == 3


@given(prompt=sizes, output=sizes, context=integers(2, 4096))
def test_a_shortened_request_fits_and_keeps_both_its_parts(prompt, output, context):
    made = fitted(Arrival(0.0, prompt, output), context)
    assert made.prompt_tokens + made.output_tokens <= context
    assert 1 <= made.prompt_tokens <= prompt
    assert 1 <= made.output_tokens <= output
    if prompt + output <= context:
        assert made == Arrival(0.0, prompt, output)


@given(lists(floats(1e-6, 1e5), min_size=1, max_size=200), floats(0.1, 100))
def test_a_percentile_is_the_exact_one_within_its_error(seconds, percent):
    sketch = Sketch()
    for second in seconds:
        sketch.add(second)
    exact = sorted(seconds)[max(1, ceil(len(seconds) * percent / 100)) - 1]
    assert sketch.percentile(percent) == pytest.approx(exact, rel=ERROR * 1.001)
    assert sketch.mean == pytest.approx(sum(seconds) / len(seconds))


def test_a_sketch_of_nothing_knows_nothing_and_one_of_zeros_says_so():
    sketch = Sketch()
    assert (sketch.percentile(50), sketch.mean) == (None, None)
    sketch.add(0.0)
    assert sketch.percentile(99) == 0


@given(cuts=lists(integers(0, 200), max_size=8), crlf=booleans())
def test_events_are_the_same_however_they_are_cut(cuts, crlf):
    end = b"\r\n\r\n" if crlf else b"\n\n"
    stream = end.join(
        [b": alive", b'data: {"n": 1}', b'data:{"n": "\xc3\xa9"}', b"data: [DONE]", b""]
    )
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    reader = EventReader()
    found = []
    for begin, stop in pairwise(places):
        found += reader.feed(stream[begin:stop])
    assert found == [{"n": 1}, {"n": "é"}]
    assert reader.done


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"hello\n\n", id="text"),
        pytest.param(b"data: [1]\n\n", id="no object"),
        pytest.param(b"data: " + b"[" * 100_000 + b"\n\n", id="nested without end"),
        pytest.param(b"data: \xff\n\n", id="no UTF-8"),
        pytest.param(b"data: " + b"x" * (1 << 21), id="an event without an end"),
    ],
)
def test_what_is_no_stream_of_events_is_refused(stream):
    with pytest.raises(NoEvent):
        EventReader().feed(stream)


def answered(ttft_s: float, tbt_s: float, tokens: int, outcome: Outcome = Outcome.OK) -> Answer:
    """An answer whose tokens came at these times."""
    answer = Answer(Asked(b"", 10, tokens))
    for number in range(tokens):
        answer.take({"choices": [{"text": "x"}]}, ttft_s + number * tbt_s)
    answer.e2e_s = ttft_s + (tokens - 1) * tbt_s
    answer.end(outcome)
    return answer


@pytest.mark.parametrize(
    ("slo", "good"),
    [
        pytest.param(Slo(), True, id="without limits all right answers are good"),
        pytest.param(Slo(ttft_s=1.0, tbt_s=0.125, e2e_s=2.0), True, id="in time to the last digit"),
        pytest.param(Slo(ttft_s=0.99), False, id="the first token too late"),
        pytest.param(Slo(tbt_s=0.124), False, id="tokens too slow"),
        pytest.param(Slo(e2e_s=1.99), False, id="the last token too late"),
    ],
)
def test_goodput_counts_right_answers_in_time(slo, good):
    summary = Summary(slo)
    summary.add(answered(ttft_s=1.0, tbt_s=0.125, tokens=9))
    for outcome in (Outcome.WRONG, Outcome.LOST, Outcome.UNFINISHED):
        summary.add(answered(0.1, 0.01, 9, outcome))
    assert summary.body(seconds=2.0)["goodput_rps"] == (0.5 if good else 0.0)


def test_times_are_those_of_right_answers_and_every_request_is_counted_once():
    summary = Summary(Slo())
    for outcome in Outcome:
        summary.add(answered(1.0 if outcome is Outcome.OK else 50.0, 0.1, 3, outcome))
    report = summary.body(seconds=1.0)
    assert report["ttft_s"]["max"] == 1.0
    assert report["tbt_s"]["p50"] == pytest.approx(0.1, rel=ERROR)
    assert report["requests"]["sent"] == len(Outcome)
    assert all(report["requests"][outcome] == 1 for outcome in Outcome)


def test_a_million_problems_take_the_room_of_a_few():
    summary = Summary(Slo())
    for number in range(1000):
        answer = Answer(Asked(b"", 1, 1))
        answer.end(Outcome.FAILED, f"error {number}" + "x" * 10_000)
        summary.add(answer)
    assert len(summary.problems) == MOST_PROBLEMS
    assert max(map(len, summary.problems)) < 300
