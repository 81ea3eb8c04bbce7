"""The live views of a cluster: `splitwise top` on a terminal, and the status page in a browser."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from tests.support import browser as chromium
from tests.support.browser import NARROW, Seen, opened
from tests.support.cluster import (
    SPLITWISE,
    Cluster,
    eventually,
    running,
    splitwise,
    under_load,
    write_cluster,
)
from tests.support.ports import free_port
from tests.support.terminal import terminal

pytestmark = pytest.mark.e2e

POOLS = [
    {"name": "prompt", "role": "prompt", "kvMemory": "64Mi"},
    {"name": "token", "role": "token", "kvMemory": "64Mi"},
]
SHOWN_MS = 20_000
READABLE = 4.5
"""The least contrast of text that WCAG 2.2 asks for."""


@pytest.fixture(scope="module")
def viewed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A small cluster with a status page, which the last test ends."""
    directory = tmp_path_factory.mktemp("viewed")
    router = {"maxQueueSeconds": 60, "statusPage": True}
    file = write_cluster(directory, tiny_model, pools=POOLS, router=router)
    with running(file, directory / "state", "--port", str(free_port())) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if (program := chromium.program()) is None:
        pytest.skip(chromium.NEEDS)
    with chromium.browser(program) as started:
        yield started


@cache
def url_of(cluster: Cluster) -> str:
    """Asked for once: each answer starts a command."""
    return cluster.url


def top(cluster: Cluster, *more: str) -> list[str]:
    return [SPLITWISE, "top", "--state-dir", str(cluster.state_dir), *more]


def test_once_for_scripts_under_load(viewed: Cluster) -> None:
    with under_load(url_of(viewed), rate=8):
        found: dict[str, Any] = {}

        def shows_load() -> bool:
            done = splitwise(*top(viewed, "--once", "-o", "json", "--interval", "1")[1:])
            assert done.returncode == 0, done.stderr
            found.update(json.loads(done.stdout))
            return bool(found["times"]["transfer"]["count"])

        eventually(shows_load, 60, lambda: f"{found}\n{viewed.logs()}")
    assert found["requests"]["outputTokensPerSecond"] > 0
    assert found["times"]["ttft"]["p50"] <= found["times"]["ttft"]["p99"]
    pools = {pool["name"]: pool for pool in found["pools"]}
    assert {name: (pool["ready"], pool["desired"]) for name, pool in pools.items()} == {
        "prompt": (1, 1),
        "token": (1, 1),
    }
    assert 0 < pools["token"]["utilisation"] <= 1
    assert found["ready"]


def test_live_on_a_terminal_of_80_columns_until_ctrl_c(viewed: Cluster) -> None:
    with terminal(top(viewed, "--interval", "0.3")) as screen:
        screen.wait_for("last ")
        screen.wait_for("P99")
        assert "\x1b[1m" in screen.raw, "a terminal is given colours"
        assert screen.interrupt() == 130
    assert max(map(len, screen.lines)) <= 80
    assert "Traceback" not in screen.raw
    assert screen.raw.rstrip().endswith("\x1b[?25h"), "the cursor is shown again"


def test_no_colour_where_it_is_no_terminal(viewed: Cluster) -> None:
    shown = splitwise(*top(viewed, "--once", "--interval", "0.2")[1:])
    assert shown.returncode == 0
    assert "\x1b" not in shown.stdout
    assert re.search(r"token +1/1", shown.stdout)


@contextmanager
def page(browser: Browser, cluster: Cluster, **how: Any) -> Iterator[Seen]:
    """The status page with its numbers, whose console stays silent."""
    with opened(browser, f"{url_of(cluster)}/status", **how) as seen:
        seen.page.wait_for_selector(".workers button", timeout=SHOWN_MS)
        yield seen
        assert seen.said == []


def totals(seen: Seen) -> dict[str, int]:
    """What the page says of all that the router has done."""
    entries = seen.page.locator("#totals div")
    script = "all => all.map(one => [one.children[0].textContent, one.children[1].title])"
    return {name: int(value) for name, value in entries.evaluate_all(script)}


def test_the_page_shows_what_the_metrics_say(browser: Browser, viewed: Cluster) -> None:
    pods = {pod["role"]: pod for pod in viewed.pods()}
    router, token = pods["router"], pods["token"]

    def is_idle() -> bool:
        requests: dict[str, Any] = httpx.get(f"{url_of(viewed)}/load").json()["requests"]
        return requests["running"] == 0

    eventually(is_idle, 30, viewed.logs)
    with page(browser, viewed) as seen:
        counted, worker = viewed.metrics(router), viewed.metrics(token)
        shown = totals(seen)
        answered = counted.value("splitwise_router_http_requests_total", status="200")
        assert shown["answered"] == answered > 0
        assert shown["tokens sent"] == counted.value("splitwise_router_output_tokens_total")
        assert shown["prompt tokens"] == counted.value("splitwise_router_prompt_tokens_total")
        assert shown["KV moved, bytes"] == counted.value("splitwise_router_kv_bytes_total") > 0
        assert seen.text("#model") == "tiny"
        assert "1/1 ready" in seen.text("[data-pool=token] h3")
        running = int(worker.value("splitwise_worker_running_sequences"))
        slots = int(worker.value("splitwise_worker_decode_limit_sequences"))
        gauge = "[data-pool=token] [data-name=sequences] span:last-child"
        assert seen.text(gauge) == f"{running}/{slots}"


def test_the_page_lives_and_pauses_by_keyboard_alone(browser: Browser, viewed: Cluster) -> None:
    with page(browser, viewed) as seen:
        seen.page.keyboard.press("Tab")
        assert seen.page.evaluate("document.activeElement.id") == "pause"
        with under_load(url_of(viewed), rate=8):
            for place, idle in (("decode-now", "0 tokens/s"), ("transfer-time", "P50 –, P99 –")):
                expect(seen.page.locator(f"#{place}")).not_to_have_text(idle, timeout=60_000)
        assert "by shm" in seen.text("#transfer-more")
        seen.page.keyboard.press("Enter")
        assert seen.page.get_attribute("#pause", "aria-pressed") == "true"
        seen.page.keyboard.press("Tab")
        seen.page.keyboard.press("ArrowRight")
        assert "test-token-0: ready" in seen.text("[data-pool=token] .told")
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert seen.page.evaluate(outline) == "solid", "one sees where one is"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_reads_well_by_day_and_night_in_a_narrow_window(
    browser: Browser, viewed: Cluster, scheme: str
) -> None:
    with page(browser, viewed, color_scheme=scheme, viewport=NARROW) as seen:
        assert not seen.overflows()
        for text in ("h2", "#news", "dt"):
            assert seen.contrast(text) >= READABLE
        back = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", back)[:3])) > 384) == (scheme == "light")


def test_reports_of_bench_read_well_in_a_browser(
    browser: Browser, viewed: Cluster, tmp_path: Path
) -> None:
    sizes = ["--prompt-tokens", "32", "--output-tokens", "8", "--rate", "40", "--requests", "40"]
    file = str(tmp_path / "a.json")
    files = ["--json", file, "--html", str(tmp_path / "a.html")]
    done = splitwise("bench", "--url", url_of(viewed), *sizes, *files, "--slo", "answered=100%")
    assert done.returncode == 0, done.stdout + done.stderr
    done = splitwise("bench", "compare", file, file, "--html", str(tmp_path / "both.html"))
    assert done.returncode == 0, "a run is no worse than itself"
    report = json.loads(Path(file).read_text())
    for name, pictures, scheme in (("a", 7, "light"), ("a", 7, "dark"), ("both", 3, "dark")):
        how = {"color_scheme": scheme, "viewport": NARROW}
        with opened(browser, f"file://{tmp_path / name}.html", **how) as seen:
            assert seen.page.locator("svg").count() == pictures
            assert not seen.overflows()
            assert seen.contrast("p") >= READABLE
            assert seen.contrast("svg text") >= READABLE
            assert seen.said == []
    with opened(browser, f"file://{tmp_path / 'a.html'}") as seen:
        assert "answered at least 100 %, measured 100.00%" in seen.text("body")
        assert f"{report['requests']['ok']} requests in" in seen.text("p")


def test_a_cluster_that_goes_away_is_said_and_no_traceback(
    browser: Browser, viewed: Cluster
) -> None:
    with page(browser, viewed) as seen, terminal(top(viewed, "--interval", "0.3")) as screen:
        screen.wait_for("last ")
        assert splitwise("down", "--state-dir", str(viewed.state_dir)).returncode == 0
        screen.wait_for("these numbers are old")
        assert screen.interrupt() == 130
        assert "Traceback" not in screen.raw
        news = seen.page.locator("#news")
        expect(news).to_contain_text("these numbers are old", timeout=SHOWN_MS)
        seen.said.clear()  # the browser itself notes each question that was not answered
