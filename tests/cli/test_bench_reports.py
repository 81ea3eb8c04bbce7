"""What `splitwise bench` says of a run as a whole, and of two runs."""

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitwise_cli.bench.answers import Answer, Asked, Outcome
from splitwise_cli.bench.compare import Judgement, compare, unlike
from splitwise_cli.bench.objectives import objective
from splitwise_cli.bench.runs import Run, run_of
from splitwise_cli.bench.sketch import Sketch
from splitwise_cli.bench.summary import Slo, Summary
from splitwise_cli.bench.timeline import FIRST_SLICE_S, MOST_SLICES, Timeline
from splitwise_core.errors import UserError
from tests.cli.support import Desk
from tests.cli.test_bench import QUICKLY, SIZES, cut_in_the_middle, rightly
from tests.support.completions_server import Exchange, serving
from tests.support.html import Page

ABOUT = {"url": "http://x", "model": "tiny", "stopped": False, "began": "now"}


def simulated(seed: int, slower: float = 1.0, requests: int = 800, wrong: float = 0.0) -> Run:
    """A run of 100 s in which a queue comes and goes, so that neighbours are alike."""
    draw, summary, queue_s = Random(seed), Summary(Slo(ttft_s=0.5)), 0.0
    for number in range(requests):
        queue_s = max(0.0, 0.8 * queue_s + draw.gauss(0.01, 0.03))
        answer = Answer(Asked(b"", 10, 3), due_s=100 * number / requests)
        answer.ttft_s = slower * (0.1 + queue_s + draw.expovariate(20))
        answer.e2e_s = answer.ttft_s + 0.2
        answer.gaps_s.extend(draw.expovariate(50) for _ in range(2))
        answer.usage = {"completion_tokens": 3}
        answer.end(Outcome.WRONG if draw.random() < wrong else Outcome.OK)
        summary.add(answer)
    report = ABOUT | {"load": {"rate": 15, "seed": seed}} | summary.body(100.0)
    return run_of(f"run-{seed}", json.loads(json.dumps(report)))


def judged(first: Run, second: Run) -> dict[str, Judgement]:
    return {one.name: one.judgement for one in compare(first, second)}


@pytest.mark.parametrize(
    ("text", "name", "limit"),
    [
        pytest.param("ttft_p99=1s", "ttft_p99", 1.0, id="seconds"),
        pytest.param("tbt_p90=50ms", "tbt_p90", 0.05, id="milliseconds"),
        pytest.param("e2e_p99.9 = 2m", "e2e_p99.9", 120.0, id="minutes, and a part of a percent"),
        pytest.param("first_decode_mean=0.5", "first_decode_mean", 0.5, id="a stage's mean"),
        pytest.param("goodput=99.5%", "goodput", 0.995, id="a share"),
    ],
)
def test_an_objective_is_written_as_one_says_it(text: str, name: str, limit: float) -> None:
    found = objective(text)
    assert (found.name, found.limit) == (name, pytest.approx(limit))


@pytest.mark.parametrize(
    "text",
    ["ttft_p99", "ttft=1s", "ttft_p100=1s", "ttft_p99=-1s", "goodput=0.9", "goodput=101%", "x=1s"],
)
def test_what_is_no_objective_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match="ttft_p99=1s") as refused:
        objective(text)
    assert refused.value.code == "invalid-load"


async def slowly(exchange: Exchange) -> None:
    if exchange.number == 0:
        await asyncio.sleep(0.4)
    exchange.answer(exchange.right())


def test_a_run_that_misses_an_objective_fails_and_says_which(desk: Desk) -> None:
    asked = ["--slo", "e2e_max=0.3s", "--slo", "ttft_p50=60s", "--slo", "answered=100%"]
    with serving(slowly) as server:
        load = [*QUICKLY, *SIZES, "--requests", "4", "--json", "report.json"]
        done = desk.says("bench", "--url", server.url, *load, *asked)
    assert done.returncode == 1
    assert "NOT KEPT e2e_max at most 300 ms" in done.stdout
    assert "kept ttft_p50 at most 60 s" in done.stdout
    report = json.loads((desk.directory / "report.json").read_text())
    found = {one["objective"]: one["held"] for one in report["objectives"]}
    assert found == {"e2e_max": False, "ttft_p50": True, "answered": True}


def test_an_objective_of_which_nothing_was_measured_is_not_kept() -> None:
    summary = Summary(Slo(), [objective("ttft_p99=10s"), objective("goodput=0%")])
    assert [one["held"] for one in summary.verdicts] == [False, False]


@given(st.lists(st.tuples(st.floats(0, 3000), st.floats(1e-4, 100)), min_size=1, max_size=60))
def test_slices_are_few_and_lose_nothing(requests: list[tuple[float, float]]) -> None:
    timeline, whole = Timeline(), Sketch()
    for due_s, took_s in requests:
        within = timeline.at(due_s)
        within.sent += 1
        whole.add(took_s, within.e2e)
    assert len(timeline.slices) <= MOST_SLICES
    assert sum(one.sent for one in timeline.slices) == len(requests)
    assert max(due_s for due_s, _ in requests) <= timeline.slice_s * MOST_SLICES
    together = Sketch()
    for one in timeline.slices:
        together.take_in(one.e2e)
    assert together.spread() == whole.spread()
    assert together.percentile(90) == whole.percentile(90)


def test_a_short_run_has_slices_too() -> None:
    timeline = Timeline()
    timeline.at(2.0)
    assert timeline.slice_s == FIRST_SLICE_S
    assert len(timeline.slices) == 9


def test_runs_that_are_alike_hardly_ever_differ_for_real() -> None:
    """Six pairs with twelve figures each; by chance one in 370 would."""
    pairs = [judged(simulated(seed), simulated(seed + 100)) for seed in range(6)]
    real = [name for one in pairs for name, found in one.items() if found in _REAL]
    assert len(real) <= 2, real
    assert all(one["TTFT P50"] is not Judgement.UNKNOWN for one in pairs)


_REAL = (Judgement.BETTER, Judgement.WORSE)


def test_what_is_much_slower_is_worse_and_the_other_way_round_better() -> None:
    fast, slow = simulated(1), simulated(2, slower=1.5)
    assert judged(fast, slow)["TTFT P50"] is Judgement.WORSE
    assert judged(fast, slow)["TBT P50"] is Judgement.NOISE
    assert judged(slow, fast)["TTFT P50"] is Judgement.BETTER


def test_answers_that_go_wrong_are_worse() -> None:
    found = judged(simulated(1), simulated(2, wrong=0.2))
    assert found["right answers"] is Judgement.WORSE


def test_of_few_requests_a_high_percentile_tells_nothing() -> None:
    found = judged(simulated(1, requests=100), simulated(2, requests=100))
    assert found["TTFT P99"] is Judgement.UNKNOWN
    assert found["TTFT P50"] is not Judgement.UNKNOWN


def test_the_same_runs_compare_alike_each_time() -> None:
    runs = simulated(1), simulated(2)
    assert compare(*runs) == compare(*runs)


def test_loads_that_are_not_alike_are_named_but_for_their_seed() -> None:
    one, other = simulated(1), simulated(2)
    assert unlike(one, other) == []
    faster = other.report | {"load": {"rate": 30}, "model": "llama"}
    assert unlike(one, Run("b", faster, 1.0, ())) == ["model: tiny and llama", "rate: 15 and 30"]


def written(desk: Desk, run: Run) -> str:
    (desk.directory / f"{run.name}.json").write_text(json.dumps(run.report))
    return f"{run.name}.json"


def test_compare_fails_when_something_is_worse(desk: Desk) -> None:
    fast, slow = written(desk, simulated(1)), written(desk, simulated(2, slower=1.5))
    worse = desk.says("bench", "compare", fast, slow, "--html", "both.html")
    assert worse.returncode == 1, worse.stderr
    assert "worse" in worse.stdout
    page = Page((desk.directory / "both.html").read_text())
    assert (page.loads, page.pictures) == ([], 3)
    better = desk.says("bench", "compare", slow, fast, "-o", "json")
    found = json.loads(better.stdout)
    assert (better.returncode, found["worse"]) == (0, False)
    assert found["figures"][0]["figure"] == "TTFT P50"
    assert found["figures"][0]["judgement"] == "better"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="an empty file"),
        pytest.param("[]", id="a list"),
        pytest.param("{}", id="no report"),
        pytest.param("[" * 100_000, id="too deep"),
        pytest.param('{"timeline": {"slice_s": 1, "slices": [3]}}', id="slices that are none"),
    ],
)
def test_what_is_no_report_is_refused(desk: Desk, text: str) -> None:
    (desk.directory / "bad.json").write_text(text)
    done = desk.says("bench", "compare", "bad.json", written(desk, simulated(1)))
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad.json" in done.stderr
    assert "fix:" in done.stderr


def test_a_page_of_a_run_has_its_plots_in_it_and_loads_nothing(desk: Desk) -> None:
    with serving(rightly) as server:
        load = [*QUICKLY, *SIZES, "--requests", "6", "--html", "run.html", "--slo", "ttft_p50=9s"]
        done = desk.says("bench", "--url", server.url, *load)
    assert done.returncode == 0, done.stderr
    text = (desk.directory / "run.html").read_text()
    page = Page(text)
    assert (page.loads, page.pictures) == ([], 7)
    assert "ttft_p50 at most 9 s" in text


def test_a_page_without_a_single_answer_can_be_written(desk: Desk, tmp_path: Path) -> None:
    load: list[Any] = [*QUICKLY, *SIZES, "--requests", "2", "--html", tmp_path / "run.html"]
    with serving(cut_in_the_middle) as server:
        assert desk.says("bench", "--url", server.url, *map(str, load)).returncode == 1
    assert "<svg" in (tmp_path / "run.html").read_text()
