"""`splitwise top`: what it tells from two readings, and how it draws that."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from splitwise_cli.top.differences import Times, together
from splitwise_cli.top.kubernetes import wanted_of
from splitwise_cli.top.picture import Picture, picture
from splitwise_cli.top.readings import GROWING, TIMES, Reading, Wanted, router_reading
from splitwise_cli.top.view import view
from tests.cli.support import Desk
from tests.support.ports import free_port

BOUNDS = (0.001, 0.01, 0.1, 1.0)


def histogram(*seconds: float, before: Times | None = None) -> Times:
    """The durations as a histogram, on top of what was counted before."""
    begun = before or Times(BOUNDS, (0,) * 5)
    counts = [sum(one <= bound for one in seconds) for bound in (*BOUNDS, float("inf"))]
    added = tuple(then + now for then, now in zip(begun.counts, counts))
    return Times(BOUNDS, added, begun.total_s + sum(seconds))


def document(**changes: Any) -> dict[str, Any]:
    """A router's /load."""
    pool = {
        "pool": "prompt",
        "role": "prompt",
        "workers": 2,
        "ready": 2,
        "draining": 0,
        "borrowed": 1,
        "utilisation": 0.25,
        "queuedRequests": 3,
        "queuedTokens": 4000,
        "backlogSeconds": 2.0,
        "running": 5,
        "maxSequences": 64,
        "kvBlocks": 200,
        "freeKvBlocks": 50,
    }
    requests: dict[str, Any] = dict.fromkeys(GROWING, 0)
    requests |= {"running": 5, "waiting": 0, "waitingPromptTokens": 0, "expectedWaitSeconds": 0.0}
    times = {name: {"bounds": BOUNDS, "counts": [0] * 5, "sum": 0.0} for name in TIMES}
    return {
        "model": "tiny",
        "unixSeconds": 1000.0,
        "startedUnixSeconds": 900.0,
        "ready": True,
        "why": None,
        "requests": requests | {"answered": {"200": 10}},
        "times": times,
        "pools": [pool, pool | {"pool": "token", "role": "token", "borrowed": 0}],
        "transfer": [],
    } | changes


def reading(*documents: dict[str, Any], **more: Any) -> Reading:
    routers = {f"r{i}": router_reading(one) for i, one in enumerate(documents)}
    return Reading("quickstart", routers, **more)


def later(seconds: float, tokens: int, **changes: Any) -> dict[str, Any]:
    """The same router so many seconds and output tokens later."""
    first = document()
    requests = first["requests"] | {"outputTokens": tokens, "answered": {"200": 14, "503": 2}}
    return first | {"unixSeconds": 1000.0 + seconds, "requests": requests} | changes


@given(
    old=st.lists(st.floats(0, 2)),
    new=st.lists(st.floats(0, 0.999), min_size=1),
    percent=st.integers(1, 100),
)
def test_a_percentile_is_in_the_bucket_of_the_right_duration_whatever_was_before(
    old: list[float], new: list[float], percent: int
) -> None:
    before = histogram(*old)
    found = histogram(*new, before=before).since(before).percentile(percent)
    rank = percent / 100 * len(new)
    right = next(one for i, one in enumerate(sorted(new), 1) if i >= rank)
    bounds = (0.0, *BOUNDS)
    least = max(bound for bound in bounds if bound < right or bound == 0.0)
    most = min(bound for bound in BOUNDS if bound >= right)
    assert found is not None
    assert least <= found <= most


@pytest.mark.parametrize(
    ("seconds", "percent", "expected"),
    [
        pytest.param([], 50, None, id="of nothing there is none"),
        pytest.param([0.05] * 4, 50, 0.055, id="a straight line within the bucket"),
        pytest.param([0.0005] * 2, 50, 0.0005, id="from 0 in the first bucket"),
        pytest.param([30.0] * 3, 99, 1.0, id="beyond the last bound, that bound"),
    ],
)
def test_percentiles_are_told_as_prometheus_does(
    seconds: list[float], percent: float, expected: float | None
) -> None:
    assert histogram(*seconds).percentile(percent) == pytest.approx(expected)


def test_the_times_of_several_routers_are_added_up() -> None:
    whole = together([histogram(0.05, 0.5), histogram(0.0005)])
    assert (whole.count, whole.total_s) == (3, 0.5505)
    assert together([]).percentile(50) is None


def test_rates_are_those_between_the_readings() -> None:
    shown = picture(reading(document()), reading(later(4, 100)))
    assert shown.seconds == 4
    assert shown.per_s["outputTokens"] == 25
    assert (shown.answered_per_s, shown.failed_per_s) == (1.0, 0.5)


def test_the_routers_of_a_cluster_are_added_up_and_its_pools_are_not() -> None:
    before, now = reading(document(), document()), reading(later(4, 100), later(2, 10))
    shown = picture(before, now)
    assert shown.per_s["outputTokens"] == 30
    assert shown.running == 10
    assert [line.pool.running for line in shown.pools] == [5, 5]


def test_a_router_that_was_restarted_counts_from_its_start() -> None:
    restarted = later(10, 30, startedUnixSeconds=1004.0)
    assert picture(reading(document()), reading(restarted)).per_s["outputTokens"] == 5


def test_a_router_that_is_new_here_adds_nothing_to_rates() -> None:
    shown = picture(reading(document()), reading(later(4, 100), later(4, 10**6)))
    assert shown.per_s["outputTokens"] == 25
    assert shown.routers == 2


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(None, id="no object"),
        pytest.param({"model": "x"}, id="fields are missing"),
        pytest.param(document(unixSeconds=float("nan")), id="no number"),
        pytest.param(document(unixSeconds="now"), id="text for a number"),
        pytest.param(document(pools=[{"pool": "p"}]), id="half a pool"),
        pytest.param(document(requests=[]), id="a list for an object"),
        pytest.param(
            document(times={n: {"bounds": [1], "counts": [3, 1], "sum": 0} for n in TIMES}),
            id="counts that fall",
        ),
    ],
)
def test_what_no_router_says_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        router_reading(wrong)


def test_kubernetes_tells_what_there_should_be_and_why() -> None:
    decision = {"pool": "p", "from": 1, "to": 3, "reason": "BacklogHigh", "time": "T"}
    status = {
        "pools": [
            {"name": "p", "desired": 3, "scaledBy": "Autoscaler"},
            {"name": "t", "desired": 2, "scaledBy": "External"},
        ],
        "scaling": [decision | {"to": 2}, decision | {"inputs": {"backlogSeconds": 4.25}}],
    }
    found = wanted_of({"status": status})
    assert found["p"] == Wanted(3, "scaled 1 -> 3 at T: BacklogHigh (backlogSeconds 4.25)")
    assert found["t"] == Wanted(2, "replicas set by External")
    assert wanted_of({}) == {}


def drawn(shown: Picture, trouble: str = "") -> str:
    console = Console(width=80, record=True, force_terminal=False)
    with console.capture() as captured:
        console.print(view(shown, datetime(2026, 11, 26), trouble))
    return captured.get()


def test_all_of_it_fits_80_columns() -> None:
    wanted = {"prompt": Wanted(4, "scaled 2 -> 4 at 2026-11-26T09:00:00Z: BacklogHigh " * 3)}
    times = {n: {"bounds": BOUNDS, "counts": [0, 0, 9, 9, 9], "sum": 1.0} for n in TIMES}
    link = {"from": "prompt", "to": "token", "transport": "shm", "bytesPerSecond": 2e9}
    now = later(4, 10**7, times=times, transfer=[link | {"failing": 1, "pairs": 4}])
    seen = reading(now, wanted=wanted, missing={"r9": "it does not answer " * 9})
    text = drawn(picture(reading(document()), seen), "no answer for 6 s")
    assert max(map(len, text.splitlines())) <= 80
    for told in ("2/4", "25%", "75%", "5/64", "1 borrowed", "BacklogHigh", "2.5 M", "shm"):
        assert told in text
    assert "1 of 4 links fail" in " ".join(text.split())
    assert "no answer for 6 s" in text


def test_a_pool_of_which_no_worker_is_known_is_shown_as_missing() -> None:
    seen = reading(document(), wanted={"extra": Wanted(2)})
    (line,) = (one for one in drawn(picture(seen, seen)).splitlines() if "extra" in one)
    assert line.split()[:2] == ["extra", "0/2"]


def test_why_nothing_can_be_served_is_said_when_no_router_is_ready() -> None:
    shut = document(ready=False, why="no token worker is ready")
    assert "no token worker is ready" in drawn(picture(reading(shut), reading(shut)))
    both = reading(shut, document())
    assert picture(both, both).why_not_ready is None


def test_json_has_every_number_of_the_picture() -> None:
    shown = replace(picture(reading(document()), reading(later(4, 100))), missing={"r": "gone"})
    found = json.loads(json.dumps(shown.body()))
    assert found["requests"]["outputTokensPerSecond"] == 25
    assert found["pools"][0]["kv_fill"] == 0.75
    assert found["times"]["ttft"] == {"count": 0, "p50": None, "p90": None, "p99": None}
    assert found["missing"] == {"r": "gone"}


@pytest.mark.parametrize(
    "where",
    [
        pytest.param(["--url", "http://127.0.0.1:{port}"], id="nobody listens there"),
        pytest.param(["--state-dir", "nowhere"], id="no cluster is up"),
        pytest.param(["--cluster", "x"], id="no API server is known"),
    ],
)
def test_a_cluster_that_cannot_be_seen_is_said_at_once(
    desk: Desk, where: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(desk.directory / "absent"))
    port = free_port()
    done = desk.says("top", *(word.format(port=port) for word in where))
    assert (done.returncode, done.stdout) == (2, "")
    assert "fix:" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_places_at_once_are_refused(desk: Desk) -> None:
    done = desk.says("top", "--url", "http://127.0.0.1:1", "--cluster", "x")
    assert done.returncode == 2
    assert "leave one of them out" in done.stderr
