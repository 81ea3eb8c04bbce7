"""`splitwise bench profile`: what it makes of answers, and what it refuses."""

import asyncio
import re
from array import array

import pytest

from splitwise_cli.bench.answers import Answer, Asked
from splitwise_cli.bench.profiling import Grid, Timed, alone, handed_over_s, prompts, steps
from splitwise_planner.phase_times import load_phase_times
from tests.cli.support import Desk
from tests.support.completions_server import Behaviour, Exchange, serving

ABOUT = ["--model", "m", "--gpu", "g", "--out", "times.csv"]
PREFILL_MS = 30.0
STEP_S = 0.02
FIRST_DECODE_MS = 15.0
GRID = Grid([8], [2], output_tokens=10, repeats=1)


def answered(
    asked_s: float,
    gaps_s: list[float],
    prompt: int = 8,
    prefill_ms: float = PREFILL_MS,
    queue_ms: float = 0.0,
) -> Timed:
    """An answer whose first token came a second after it was asked for."""
    stages = {"queue_ms": queue_ms, "prefill_ms": prefill_ms}
    usage = {"completion_tokens": len(gaps_s) + 1, "splitwise": stages}
    answer = Answer(Asked(b"", prompt, len(gaps_s) + 1), ttft_s=1.0, gaps_s=array("d", gaps_s))
    answer.usage = usage
    return Timed(answer, asked_s)


def test_a_step_is_counted_for_as_many_as_decoded_then() -> None:
    """Gaps of 10 ms while one decodes, of 30 ms while the other does too; a transfer before."""
    first = answered(0.0, [0.5] + [0.01] * 50 + [0.03] * 10)
    second = answered(0.5, [0.5] + [0.03] * 10)  # from 2.0 on, when the first is at 2.0
    found = {shape.sequences: shape for shape in steps([first, second], GRID)}
    assert found[1].token_ms == pytest.approx([10.0] * len(found[1].token_ms))
    assert found[2].token_ms == pytest.approx([30.0] * len(found[2].token_ms))
    assert not found[1].prompt_ms + found[2].prompt_ms
    halved = Grid([8], [2], output_tokens=10, repeats=1, token_workers=2)
    assert [shape.sequences for shape in steps([first, second], halved)] == [1]


def test_a_prompt_that_waited_or_was_computed_with_others_says_nothing_of_its_size() -> None:
    gaps_s = [0.1] * 3
    alike = [answered(0.0, gaps_s, prefill_ms=44.0), answered(0.0, gaps_s, prefill_ms=44.0)]
    waited = answered(0.0, gaps_s, prefill_ms=31.0, queue_ms=20.0)
    fine = [answered(0.0, gaps_s, prefill_ms=32.0), answered(0.0, gaps_s, 99, prefill_ms=90.0)]
    found = prompts([*alike, waited, *fine])
    assert [(shape.prompt_tokens, shape.prompt_ms) for shape in found] == [
        (8, (32.0,)),
        (99, (90.0,)),
    ]


@pytest.mark.parametrize(
    ("told", "found_s"),
    [
        pytest.param({"transfer_ms": 1.0, "first_decode_ms": 12.0}, [0.003], id="and its messages"),
        pytest.param({"transfer_ms": 1.0, "first_decode_ms": 15.5}, [0.001], id="at least as told"),
        pytest.param({"transfer_ms": None, "first_decode_ms": None}, [], id="none on one worker"),
    ],
)
def test_a_transfer_takes_the_gap_before_the_second_token_but_for_its_step(
    told: dict[str, float | None], found_s: list[float]
) -> None:
    one = answered(0.0, [0.015, 0.01])
    one.answer.usage["splitwise"].update(told)
    assert list(handed_over_s([one])) == pytest.approx(found_s)


def test_tokens_that_came_in_one_piece_have_no_times() -> None:
    """A busy client reads several events at once: the gaps between them are 0."""
    at_once, bunched = answered(0.0, [0.5] + [0.0] * 20), answered(0.0, [0.5] + [0.0, 0.04] * 30)
    assert not at_once.is_shown
    assert bunched.is_shown
    (shape,) = steps([bunched], GRID)
    assert shape.token_ms == pytest.approx([20.0] * len(shape.token_ms), rel=0.1)
    assert steps([at_once], GRID) == []


def test_alone_each_size_tells_of_both_phases() -> None:
    found = alone([answered(0.0, [0.5, 0.01, 0.03]), answered(9.0, [0.1, 0.04, 0.04], 99)])
    assert [shape.prompt_tokens for shape in found] == [8, 99]
    assert found[0].token_ms == pytest.approx((20.0,))
    assert found[1].token_ms == pytest.approx((40.0,))
    assert found[0].prompt_ms == (PREFILL_MS,)


async def slowly(exchange: Exchange) -> None:
    """An answer whose tokens are a step apart, and that tells of its stages."""
    tokens = int(exchange.asked["max_tokens"])
    exchange.begin()
    await asyncio.sleep(PREFILL_MS / 1000)
    for _ in range(tokens):
        exchange.text("x")
        await asyncio.sleep(STEP_S)
    stages = {
        "queue_ms": 0.0,
        "prefill_ms": PREFILL_MS,
        "transfer_ms": 1.0,
        "first_decode_ms": FIRST_DECODE_MS,
    }
    usage = {"completion_tokens": tokens, "splitwise": stages}
    exchange.event({"choices": [], "usage": usage})
    exchange.send(b"data: [DONE]\n\n")
    exchange.writer.write(b"0\r\n\r\n")


async def without_stages(exchange: Exchange) -> None:
    exchange.answer(["x"] * int(exchange.asked["max_tokens"]))


async def failing(exchange: Exchange) -> None:
    exchange.say(500, {"error": {"message": "a bug"}})


def test_a_server_is_measured_alone_and_with_more_under_way(desk: Desk) -> None:
    sizes = ["--prompt-tokens", "9,5", "--under-way", "2", "--output-tokens", "10"]
    with serving(slowly, "m") as server:
        done = desk.says("bench", "profile", "--url", server.url, *ABOUT, *sizes, "--repeats", "1")
    assert done.returncode == 0, done.stderr
    (told,) = re.findall(r"transfer_latency_s: (\S+)", done.stdout)
    assert STEP_S - FIRST_DECODE_MS / 1000 <= float(told) < STEP_S, "the gap without that step"
    shapes = load_phase_times(desk.directory / "times.csv")["m", "g", 1]
    assert [(s.prompt_tokens, s.prompt_ms) for s in shapes if s.prompt_ms and s.token_ms] == [
        (5, (PREFILL_MS,)),
        (9, (PREFILL_MS,)),
    ]
    for shape in shapes:
        assert all(ms >= 1000 * STEP_S * 0.9 for ms in shape.token_ms), "none shorter than a step"


def test_a_second_profile_asks_for_nothing_that_the_first_has_left_in_a_cache(desk: Desk) -> None:
    sizes = ["--prompt-tokens", "5,9", "--under-way", "2", "--output-tokens", "10"]
    with serving(slowly, "m") as server:
        for _ in range(2):
            desk.says("bench", "profile", "--url", server.url, *ABOUT, *sizes, "--repeats", "1")
    beginnings = [tuple(asked["prompt"][:5]) for asked in server.asked]
    assert len(set(beginnings)) == len(beginnings) > 4


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        pytest.param(without_stages, "does not tell how long its stages take", id="others"),
        pytest.param(failing, "ended failed: 500: a bug", id="a server that fails"),
    ],
)
def test_what_cannot_be_measured_is_said(desk: Desk, behaviour: Behaviour, said: str) -> None:
    with serving(behaviour, "m") as server:
        done = desk.says("bench", "profile", "--url", server.url, *ABOUT)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (desk.directory / "times.csv").exists()


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--prompt-tokens", "12"), "one size, which says nothing of others"),
        (("--prompt-tokens", "12,x"), "'12,x' is no list of numbers"),
        (("--under-way", "0"), "'0' is no list of numbers"),
        (("--output-tokens", "3"), "give 8 or more"),
        (("--repeats", "0"), "give 1 or more"),
    ],
)
def test_a_wrong_number_is_refused(desk: Desk, option: tuple[str, str], said: str) -> None:
    done = desk.says("bench", "profile", *ABOUT, *option)
    assert done.returncode == 2
    assert said in done.stderr
