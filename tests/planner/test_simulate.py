"""`splitwise simulate` and `plan`: what they print and write, and their exit status."""

import csv
import json
import os
import subprocess
from pathlib import Path

import pytest

from splitwise_planner.outcome import COLUMNS, PLACED
from tests.support.cluster import SPLITWISE

TRACE = "arrival_timestamp,prompt_size,token_size\n1,4096,32\n3,2048,8\n4,2048,16\n"

MODEL = ("--mode", "compat", "--model", "bloom-176b")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return path


def splitwise(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [SPLITWISE, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_each_request_is_written_in_order_of_end(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "requests.csv"
    arguments = ("--design", "HA-1P-1T", "--trace", trace, "--out", out, "--json")
    done = splitwise("simulate", *MODEL, *arguments)
    assert done.returncode == 0, done.stderr
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["request_id"] for row in rows] == ["0", "1", "2"]
    assert float(rows[1]["response_time"]) == pytest.approx(0.622873, abs=1e-6)
    found = json.loads(done.stdout)
    assert found["design"] == "HA-1P-1T"
    assert found["requests"] == 3
    assert found["met"] is True
    assert found["slowdown"]["ttft_p50"] == pytest.approx(0.47, abs=0.01)


def test_where_each_request_went_is_written_in_measured_mode(trace: Path, tmp_path: Path) -> None:
    """Workers of prompts are counted first; one that serves both phases is told twice."""
    out = tmp_path / "requests.csv"
    for design, workers in (("HA-2P-1T", {("0", "2")}), ("BH-1P_T", {("0", "0")})):
        asked = ("--model", "bloom-176b", "--design", design, "--trace", trace, "--out", out)
        done = splitwise("simulate", "--mode", "measured", *asked)
        assert done.returncode in (0, 1), done.stderr
        with out.open() as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == (*COLUMNS, *PLACED)
        assert {(row["prompt_worker"], row["token_worker"]) for row in rows} == workers


def test_a_request_that_never_fits_holds_up_all_behind_it_and_makes_it_fail(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("arrival_timestamp,prompt_size,token_size\n0,200000,2\n1,100,2\n")
    done = splitwise("simulate", *MODEL, "--design", "BH-1P_T", "--trace", trace)
    assert done.returncode == 1
    assert "2 of 2 requests never ended" in done.stdout


def test_a_mistake_is_told_with_its_place(trace: Path) -> None:
    trace.write_text(TRACE + "5,0,1\n")
    done = splitwise("simulate", *MODEL, "--design", "BH-1P_T", "--trace", trace)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{trace}:5: has 0 prompt tokens" in done.stderr


def test_a_plan_for_scripts(trace: Path) -> None:
    arguments = ("--rate", "2", "--designs", "BH,HH", "--seeds", "2", "--duration", "30", "--json")
    done = splitwise("plan", *MODEL, "--trace", trace, *arguments)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [one["kind"] for one in found["plans"] if one["feasible"]]
    assert found["mode"] == "compat"


def test_a_measured_plan_simulates_in_processes_and_says_what_it_is(trace: Path) -> None:
    arguments = ("--rate", "1", "--designs", "HH", "--seeds", "2", "--duration", "20")
    what = ("--mode", "measured", "--model", "bloom-176b", "--trace", trace)
    done = splitwise("plan", *what, *arguments, "--power-caps", "100,50", "--frontier", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["mode"] == "measured"
    assert {one["kind"] for one in found["plans"]} == {"HH", "HH@50"}
    assert [one["design"] for one in found["frontier"]] == ["HH@50-1P-1T"], "as cheap, less power"
    assert set(found["gain_rps_with_one_more"]) == {"prompt", "token"}


def test_a_day_is_planned_by_the_hour(trace: Path, tmp_path: Path) -> None:
    day = tmp_path / "day.csv"
    day.write_text("hour,share\n" + "".join(f"{hour},{hour % 2 or 0.5}\n" for hour in range(24)))
    arguments = ("--rate", "4", "--designs", "BH", "--seeds", "1", "--duration", "20", "--json")
    times = ("--day", day, "--time-zone", "Asia/Tokyo", "--start", "120")
    done = splitwise("plan", *MODEL, "--trace", trace, *arguments, *times)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["day"]
    assert [hour["rate"] for hour in found["hours"]] == [2, 4] * 12
    assert found["time_zone"] == "Asia/Tokyo"
    assert list(found["pools"]) == ["prompt"], "machines of a baseline do both"
    most = found["pools"]["prompt"]["most"]
    assert {"begins": "22:58", "ends": "00:00", "machines": most} in found["pools"]["prompt"][
        "schedule"
    ]


def test_a_time_zone_is_of_a_day(trace: Path) -> None:
    arguments = ("--rate", "4", "--designs", "BH", "--time-zone", "UTC")
    done = splitwise("plan", *MODEL, "--trace", trace, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--time-zone: is that of --day" in done.stderr


def test_a_plan_with_failures_says_how_many_there_were(trace: Path) -> None:
    what = ("--mode", "measured", "--model", "bloom-176b", "--trace", trace)
    arguments = ("--rate", "1", "--designs", "BH", "--seeds", "2", "--duration", "60")
    done = splitwise("plan", *what, *arguments, "--mtbf", "5000", "--repair", "1")
    assert done.returncode == 0, done.stderr
    assert "while machines fail, each once in 5000 h on average, for 1 min" in done.stdout
    assert "that failed in its 2 draws: 0" in done.stdout


def test_a_measured_simulation_says_what_the_workers_did(trace: Path) -> None:
    what = ("--mode", "measured", "--model", "bloom-176b", "--trace", trace)
    done = splitwise("simulate", *what, "--design", "HH-1P-1T")
    assert done.returncode == 0, done.stderr
    assert "placed: split 3" in done.stdout
    assert "kW on average" in done.stdout
    assert "no hardware was asked" in done.stdout


def test_a_simulation_says_how_often_links_broke(trace: Path, tmp_path: Path) -> None:
    report, what = tmp_path / "links.md", ("--link-mtbf", "0.001", "--link-repair", "0.01")
    arguments = (*MEASURED, "--trace", trace, *what, "--report", report)
    done = splitwise("simulate", *arguments)
    assert "times a link broke, and " in done.stdout
    assert "from prompt machine" in report.read_text()
    told = json.loads(splitwise("simulate", *arguments, "--json").stdout)["used"]
    assert told["breaks"]
    assert told["lost_transfers"] >= 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            ("--mode", "measured", "--design", "BH-2P_T"),
            "is for links between two pools, and BH-2P_T has one",
            id="a baseline has none",
        ),
        pytest.param(("--design", "HH-1P-1T"), "compat mode does not know", id="compat mode"),
        pytest.param(
            ("--mode", "measured", "--design", "HH-1P-1T", "--link-repair", "0"),
            "--link-repair: is 0",
            id="a repair that takes no time",
        ),
    ],
)
def test_links_that_cannot_break_are_refused(
    trace: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = splitwise("simulate", *MODEL, "--trace", trace, *arguments, "--link-mtbf", "5")
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


CROWDED = "arrival_timestamp,prompt_size,token_size\n" + "1,9000,2\n" * 3
"""The third prompt comes to a prompt worker with more than 8,192 tokens in its queue."""

MEASURED = ("--mode", "measured", "--model", "bloom-176b", "--design", "HH-1P-1T")


def test_workers_that_were_borrowed_are_told_and_shown(trace: Path, tmp_path: Path) -> None:
    trace.write_text(CROWDED)
    page = tmp_path / "page.html"
    done = splitwise("simulate", *MEASURED, "--trace", trace, "--report", page)
    assert done.returncode == 0, done.stderr
    assert "borrowed: 1 times a token worker for " in done.stdout
    assert "Workers that serve the other phase too" in page.read_text()


def test_pools_that_may_not_borrow_do_not(trace: Path) -> None:
    trace.write_text(CROWDED)
    done = splitwise("simulate", *MEASURED, "--trace", trace, "--no-borrowing", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["lent"] == {}
    assert found["used"]["placements"] == {"split": 3}


def test_requests_stay_together_where_that_is_asked_for(trace: Path) -> None:
    trace.write_text(CROWDED)
    asked = ("simulate", *MEASURED, "--trace", trace, "--disaggregation", "Never")
    done = splitwise(*asked, "--json")
    assert json.loads(done.stdout)["used"]["placements"] == {"one-worker": 3}
    done = splitwise(*asked, "--no-borrowing")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--no-borrowing: with --disaggregation Never all workers serve both" in done.stderr


MOONCAKE = "".join(
    f'{{"timestamp": {at_ms}, "input_length": 2048, "output_length": 4, "hash_ids": {ids}}}\n'
    for at_ms, ids in ((0, "[1, 2, 3, 4]"), (5000, "[1, 2, 3, 5]"))
)
"""Of the second prompt three quarters came before."""


def test_what_was_found_in_caches_is_told(trace: Path) -> None:
    trace.write_text(MOONCAKE)
    told = "prefixes: 38% of the tokens of prompts were not computed, 38% not sent"
    assert told in splitwise("simulate", *MEASURED, "--trace", trace).stdout
    done = splitwise("simulate", *MEASURED, "--trace", trace, "--json")
    assert json.loads(done.stdout)["prefix_hits"] == {"compute": 0.375, "transfer": 0.375}


def test_without_a_cache_nothing_is_found(trace: Path) -> None:
    trace.write_text(MOONCAKE)
    done = splitwise("simulate", *MEASURED, "--trace", trace, "--no-prefix-caching", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prefix_hits"] is None


@pytest.mark.parametrize(
    "option", ["--no-borrowing", "--no-prefix-caching", "--disaggregation=Auto"]
)
def test_compat_mode_refuses_what_it_does_not_know(trace: Path, option: str) -> None:
    done = splitwise("simulate", *MODEL, "--design", "BH-1P_T", "--trace", trace, option)
    assert (done.returncode, done.stdout) == (2, "")
    name = option.partition("=")[0]
    assert f"{name}: asks for what compat mode does not know" in done.stderr


def test_numbers_that_do_not_read_are_refused(trace: Path) -> None:
    arguments = ("--designs", "HH", "--rate", "1", "--tensor-parallel", "x")
    done = splitwise("plan", *MODEL, "--trace", trace, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--tensor-parallel: is 'x'" in done.stderr


def test_where_nothing_may_be_written_it_compiles_for_itself(trace: Path, tmp_path: Path) -> None:
    """The folder of what was compiled is one that cannot be made."""
    script = (
        "from splitwise_planner import compiled; import pathlib; "
        "folder = compiled._cache_folder(); print(folder)"
    )
    python = Path(SPLITWISE).parent / "python"
    blocked = tmp_path / "file"
    blocked.write_text("")
    done = subprocess.run(
        [python, "-c", script],
        env={**os.environ, "XDG_CACHE_HOME": str(blocked), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path / "splitwise-planner-"))


def test_profile_makes_phase_times_of_benchmarks(tmp_path: Path) -> None:
    bench, out = tmp_path / "bench.jsonl", tmp_path / "times.csv"
    record = {"input_len": 256, "output_len": 8, "median_decode_latency": 0.01}
    lines = [json.dumps(record | {"batch_size": n, "prefill_latency": 0.02 * n}) for n in (1, 2, 4)]
    bench.write_text("\n".join(lines))
    what = ("--model", "m", "--gpu", "g", "--tensor-parallel", "2")
    done = splitwise("profile", "--benchmark", str(bench), *what, "--out", str(out), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["profiles"][0]["tensor_parallel"] == 2
    assert "m,g,2,256,4,8,80.0,10.0" in out.read_text()
