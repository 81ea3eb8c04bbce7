"""`splitwise bench` as a user runs it, against servers that behave well or otherwise."""

import asyncio
import csv
import json
import signal
import subprocess
from typing import Any

import pytest

from splitwise_planner.outcome import COLUMNS
from tests.cli.support import Desk
from tests.support.cluster import SPLITWISE, eventually
from tests.support.completions_server import Behaviour, Exchange, serving

SIZES = ["--prompt-tokens", "8", "--output-tokens", "5"]
QUICKLY = ["--rate", "1000", "--arrivals", "constant"]


def bench(
    desk: Desk, behaviour: Behaviour, *more: str, model: str = "tiny"
) -> tuple[int, Any, str]:
    """The exit status, the report of `--json`, and what was printed, for four requests."""
    asked = [*QUICKLY, *SIZES, "--requests", "4", "--json", "report.json", *more]
    with serving(behaviour, model) as server:
        done = desk.says("bench", "--url", server.url, *asked)
    assert "Traceback" not in done.stderr
    report = json.loads((desk.directory / "report.json").read_text())
    return done.returncode, report, done.stdout


async def rightly(exchange: Exchange) -> None:
    exchange.answer(exchange.right())


def test_answers_of_the_tiny_model_are_checked_to_the_word(desk: Desk) -> None:
    status, report, printed = bench(desk, rightly, "--slo-e2e", "60")
    assert status == 0
    counts = report["requests"]
    assert (counts["sent"], counts["ok"], counts["checked"]) == (4, 4, 4)
    assert report["goodput_ratio"] == 1.0
    assert 0 < report["ttft_s"]["p50"] <= report["e2e_s"]["max"]
    assert "4 requests" in printed
    assert "4 answers checked" in printed


async def the_third_wrongly(exchange: Exchange) -> None:
    words = exchange.right()
    exchange.answer(words if exchange.number != 2 else words[:-1])


def test_each_right_answer_is_a_row_that_a_simulation_can_be_compared_with(desk: Desk) -> None:
    bench(desk, the_third_wrongly, "--rate", "5", "--out", "requests.csv")
    with (desk.directory / "requests.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["request_id"]) for row in rows) == [0, 1, 3]
    assert list(rows[0]) == list(COLUMNS)
    for row in rows:
        e2e_s, ttft_s = float(row["response_time"]), float(row["ttft"])
        assert 0 < ttft_s <= e2e_s
        assert float(row["tbt"]) == pytest.approx((e2e_s - ttft_s) / 5)
        assert (row["prompt_size"], row["token_size"]) == ("8", "5")


async def wrong_word(exchange: Exchange) -> None:
    first, _, *others = exchange.right()
    exchange.answer([first, " nonsense", *others])


async def token_left_out(exchange: Exchange) -> None:
    exchange.answer(exchange.right()[:-1])


async def token_twice(exchange: Exchange) -> None:
    first, *others = exchange.right()
    exchange.answer([first, first, *others[:-1]])


async def cut_in_the_middle(exchange: Exchange) -> None:
    exchange.begin()
    exchange.text(exchange.right()[0])
    exchange.cut()


async def ended_without_its_last_event(exchange: Exchange) -> None:
    exchange.begin()
    exchange.text(exchange.right()[0])
    exchange.writer.write(b"0\r\n\r\n")


async def silent(exchange: Exchange) -> None:
    await asyncio.sleep(60)


async def no_events(exchange: Exchange) -> None:
    exchange.begin()
    exchange.send(b"<html>hello</html>\n\n")
    exchange.writer.write(b"0\r\n\r\n")


async def no_json(exchange: Exchange) -> None:
    exchange.begin()
    exchange.send(b"data: {half\n\n")
    exchange.writer.write(b"0\r\n\r\n")


async def strange_shapes(exchange: Exchange) -> None:
    exchange.begin()
    for document in ({"choices": {}}, {"choices": [7]}, {"usage": 3, "choices": [{"text": 1}]}):
        exchange.event(document)
    exchange.finish(0)


async def error_event(exchange: Exchange) -> None:
    exchange.begin()
    exchange.text(exchange.right()[0])
    exchange.event({"error": {"message": "two workers were lost", "code": "worker_lost"}})
    exchange.writer.write(b"0\r\n\r\n")


async def internal_error(exchange: Exchange) -> None:
    exchange.say(500, {"error": {"message": "a bug"}})


@pytest.mark.parametrize(
    ("behaviour", "outcome", "told"),
    [
        pytest.param(wrong_word, "wrong", "nonsense", id="another word is a wrong answer"),
        pytest.param(token_left_out, "wrong", "4 tokens where 5", id="so is one token too few"),
        pytest.param(token_twice, "wrong", "it says", id="and one that comes twice"),
        pytest.param(cut_in_the_middle, "lost", "", id="a cut stream is lost"),
        pytest.param(ended_without_its_last_event, "lost", "last event", id="so is a short one"),
        pytest.param(silent, "lost", "no end within 3 s", id="and a server that says nothing"),
        pytest.param(no_events, "lost", "html", id="and a stream of something else"),
        pytest.param(no_json, "lost", "no JSON", id="and of events without JSON"),
        pytest.param(strange_shapes, "wrong", "0 tokens", id="fields of any kind break nothing"),
        pytest.param(error_event, "failed", "two workers", id="an error event is a failure"),
        pytest.param(internal_error, "failed", "500: a bug", id="so is an error's status"),
    ],
)
def test_what_goes_wrong_is_counted_told_and_fails_the_command(
    desk: Desk, behaviour: Behaviour, outcome: str, told: str
) -> None:
    async def the_last_one_wrongly(exchange: Exchange) -> None:
        await (behaviour if exchange.number == 3 else rightly)(exchange)

    timeout_s = "3" if behaviour is silent else "30"
    status, report, printed = bench(desk, the_last_one_wrongly, "--timeout", timeout_s)
    assert status == 1
    assert report["requests"][outcome] == 1
    assert report["requests"]["ok"] == 3
    (problem,) = report["problems"]
    assert problem.startswith(f"{outcome}: ")
    assert told in problem
    assert f"1 {outcome}" in printed


def test_a_request_that_is_turned_away_is_counted_apart(desk: Desk) -> None:
    async def full(exchange: Exchange) -> None:
        if exchange.number < 2:
            error = {"message": "all workers are busy"}
            wait = "retry-after: 1\r\n" if exchange.number else ""
            exchange.say(429, {"error": error}, wait)
        else:
            await rightly(exchange)

    status, report, _ = bench(desk, full)
    assert status == 0, "to turn away is a server's right"
    assert report["requests"]["rejected"] == 2
    assert report["rejected_without_retry_after"] == 1


def test_a_load_of_which_nothing_is_answered_has_not_held(desk: Desk) -> None:
    async def full(exchange: Exchange) -> None:
        exchange.say(429, {"error": {"message": "full"}}, "retry-after: 1\r\n")

    assert bench(desk, full)[0] == 1


def test_requests_do_not_wait_for_the_answers_of_others(desk: Desk) -> None:
    everybody = asyncio.Barrier(4)

    async def when_all_are_here(exchange: Exchange) -> None:
        await everybody.wait()
        await rightly(exchange)

    status, report, _ = bench(desk, when_all_are_here)
    assert (status, report["requests"]["ok"]) == (0, 4)


def test_another_models_answers_are_not_compared(desk: Desk) -> None:
    async def anything(exchange: Exchange) -> None:
        assert len(exchange.asked["prompt"]) == 8
        exchange.answer(["x"] * 5)

    status, report, _ = bench(desk, anything, model="llama")
    assert (status, report["requests"]["ok"], report["requests"]["checked"]) == (0, 4, 0)


def test_what_is_longer_than_the_context_is_shortened_and_counted(desk: Desk) -> None:
    with serving(rightly, context=10) as server:
        done = desk.says("bench", "--url", server.url, *QUICKLY, *SIZES, "--requests", "3")
        assert {len(asked["prompt"].split()) for asked in server.asked} == {5}
    assert done.returncode == 0
    assert "3 shortened" in done.stdout


def test_a_trace_is_replayed_with_its_own_lengths(desk: Desk) -> None:
    lines = ["arrival_s,prompt_tokens,output_tokens", "0,40,20", "100.5,80,10", "300,4,2"]
    (desk.directory / "trace.csv").write_text("\n".join(lines))
    scales = ["--time-scale", "0.001", "--length-scale", "0.5"]
    with serving(rightly) as server:
        done = desk.says("bench", "--url", server.url, "--trace", "trace.csv", *scales)
        sizes = [(len(a["prompt"].split()), a["max_tokens"]) for a in server.asked]
    assert done.returncode == 0
    assert sizes == [(20, 10), (40, 5), (2, 1)]


def test_ctrl_c_ends_it_with_the_results_so_far(desk: Desk) -> None:
    async def only_the_first(exchange: Exchange) -> None:
        if exchange.number:
            await asyncio.sleep(60)
        await rightly(exchange)

    with serving(only_the_first) as server:
        load = ["--rate", "100", "--duration", "1000", *SIZES, "--json", "report.json"]
        with subprocess.Popen(
            [SPLITWISE, "bench", "--url", server.url, *load],
            cwd=desk.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            eventually(lambda: len(server.asked) > 3, 60, lambda: "it sends nothing")
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    report = json.loads((desk.directory / "report.json").read_text())
    assert report["stopped"]
    assert report["requests"]["unfinished"] > 1
    assert "unfinished" in printed


def test_what_is_due_while_too_many_are_open_is_not_sent_and_fails_the_command(
    desk: Desk,
) -> None:
    with serving(silent) as server:
        load = [*QUICKLY, *SIZES, "--requests", "40", "--timeout", "3", "--json", "report.json"]
        few_files = ["bash", "-c", 'ulimit -n 80; exec "$@"', "bash", SPLITWISE]
        done = subprocess.run(
            [*few_files, "bench", "--url", server.url, *load],
            cwd=desk.directory,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    report = json.loads((desk.directory / "report.json").read_text())
    assert done.returncode == 1
    assert report["requests"]["sent"] == report["requests"]["lost"] == 80 - 64
    assert report["requests"]["unsent"] == 40 - (80 - 64)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        pytest.param(["--rate", "1", *SIZES], "--requests", id="a load without an end"),
        pytest.param(["--requests", "1", *SIZES], "--rate", id="neither a rate nor a trace"),
        pytest.param(["--rate", "0", *SIZES], "--rate", id="a rate of nothing"),
        pytest.param(["--rate", "nan", "--requests", "1", *SIZES], "--rate", id="no number"),
        pytest.param(["--trace", "t.csv", "--rate", "1"], "--rate", id="a rate beside a trace"),
        pytest.param(["--trace", "absent.csv"], "no such file", id="a trace that is not there"),
        pytest.param(["--trace", "."], "no regular file", id="a trace that is a directory"),
        pytest.param(["--trace", "t.csv"], "t.csv, line 3", id="a trace with a bad line"),
        pytest.param(["--trace", "t.csv", "--requests", "0"], "--requests", id="no request"),
    ],
)
def test_a_load_that_cannot_be_is_refused_before_anything_is_sent(
    desk: Desk, arguments: list[str], named: str
) -> None:
    (desk.directory / "t.csv").write_text("arrival_s,prompt_tokens,output_tokens\n0,1,1\n1,x,1\n")
    done = desk.says("bench", "--url", "http://127.0.0.1:1", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert named in done.stderr
    assert "fix:" in done.stderr


def test_a_report_that_cannot_be_written_is_refused_before_the_load(desk: Desk) -> None:
    with serving(rightly) as server:
        load = [*QUICKLY, *SIZES, "--requests", "1", "--json", "absent/report.json"]
        done = desk.says("bench", "--url", server.url, *load)
        assert not server.asked
    assert done.returncode == 2
    assert "absent/report.json" in done.stderr
