"""The workers follow the API server's EndpointSlices, and outlive its troubles: INV-9."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from splitwise_core.errors import UserError
from splitwise_router import endpoint_slices, kubernetes_api
from splitwise_router.discovery import Endpoint, SliceQuery
from splitwise_router.endpoint_slices import SliceWatch
from tests.router.conftest import Start
from tests.router.fake_api import FakeApi, endpoint_slice, pod
from tests.router.support import WORDS, completion, tokens_of
from tests.support.router import Worker

QUERY = SliceQuery("ns", "splitwise.dev/cluster=demo")
WITHIN_S = 20.0


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    made = await FakeApi().start()
    yield made
    await made.stop()


class Followed:
    """A watch, what it says the workers are, and what went wrong."""

    def __init__(self) -> None:
        self.pods: set[str] = set()
        self.failures: Counter[str] = Counter()

    def apply(self, endpoints: frozenset[Endpoint]) -> None:
        self.pods = {endpoint.pod for endpoint in endpoints}

    def failed(self, reason: str) -> None:
        self.failures[reason] += 1

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                await asyncio.sleep(0.005)

    async def sees(self, *pods: str) -> None:
        await self.until(lambda: self.pods == set(pods))


@pytest.fixture
async def followed(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Followed]:
    """Follows slices with one pod, `a`, and has seen it."""
    monkeypatch.setattr(endpoint_slices, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(endpoint_slices, "LONGEST_PAUSE_S", 0.05)
    await api.put(endpoint_slice("one", endpoints=[pod("a")]))
    made = Followed()
    server = await kubernetes_api.connect(str(api.kubeconfig(tmp_path)))
    watch = SliceWatch(server, QUERY, made.apply, made.failed, logging.getLogger("test"))
    running = asyncio.create_task(watch.run())
    await made.sees("a")
    await made.until(lambda: api.watches == 1)
    yield made
    running.cancel()
    await asyncio.wait([running])
    await server.close()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "test"]


async def test_slices_come_change_and_go(api: FakeApi, followed: Followed) -> None:
    await api.put(endpoint_slice("two", endpoints=[pod("b")]))
    await followed.sees("a", "b")
    await api.put(endpoint_slice("one", endpoints=[pod("a"), pod("c")]))
    await followed.sees("a", "b", "c")
    await api.delete("two")
    await followed.sees("a", "c")
    assert {query["labelSelector"] for query in api.asked} == {QUERY.selector}
    assert not followed.failures


async def test_a_watch_that_ends_in_time_goes_on_where_it_was(
    api: FakeApi, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With bookmarks it knows where that is though nothing of its own has changed."""
    api.bookmarks = True
    monkeypatch.setattr(endpoint_slices, "WATCH_S", 1)
    await api.pass_by()
    api.cut()  # the watches from here on are short
    await followed.until(lambda: api.watches == 1)
    await api.pass_by()
    before = len(api.asked)
    await followed.until(lambda: len(api.asked) == before + 1)
    again = api.asked[-1]
    assert (again["watch"], again["resourceVersion"]) == ("true", "103")
    await api.put(endpoint_slice("two", endpoints=[pod("b")]))
    await followed.sees("a", "b")


async def test_changes_that_were_missed_are_listed_anew(api: FakeApi, followed: Followed) -> None:
    await api.stop()
    await api.put(endpoint_slice("two", endpoints=[pod("b")]))
    await api.delete("one")
    api.compact()
    await api.start()
    await followed.sees("b")


async def test_a_version_that_is_too_old_is_listed_anew(
    api: FakeApi, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_slices, "WATCH_S", 1)
    api.cut()
    await followed.until(lambda: api.watches == 1)
    await api.pass_by()  # no bookmark tells
    api.compact()
    await followed.until(lambda: followed.failures["expired"] == 1)
    await api.put(endpoint_slice("two", endpoints=[pod("b")]))
    await followed.sees("a", "b")


async def test_a_cut_stream_is_opened_again(api: FakeApi, followed: Followed) -> None:
    for number in range(3):
        api.cut()
        await api.put(endpoint_slice("two", endpoints=[pod(f"b{number}")]))
        await followed.sees("a", f"b{number}")
    assert set(followed.failures) == {"peer_lost"}


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "denied"), (500, "failed"), (None, "peer_lost")]
)
async def test_in_trouble_the_workers_stay_and_it_is_said_once(
    api: FakeApi,
    followed: Followed,
    caplog: pytest.LogCaptureFixture,
    status: int | None,
    reason: str,
) -> None:
    caplog.set_level("INFO", "test")
    api.status = status or 200
    if status is None:
        await api.stop()
    api.cut()
    await followed.until(lambda: followed.failures[reason] > 3)
    assert followed.pods == {"a"}
    lost = ["EndpointSlices are not followed"] * (1 if status is None else 2)
    assert said(caplog) == lost, "the stream's end, and then what the server answers"
    api.status = 200
    if status is None:
        await api.start()
    await followed.until(lambda: api.watches == 1)
    await api.put(endpoint_slice("two", endpoints=[pod("b")]))
    await followed.sees("a", "b")
    assert said(caplog) == [*lost, "EndpointSlices are followed"]


async def test_nonsense_is_a_trouble_like_any_other(api: FakeApi, followed: Followed) -> None:
    nonsense = endpoint_slice("two", endpoints=[{"no": "addresses"}])
    await api.put(nonsense)
    await followed.until(lambda: followed.failures["failed"] > 0)
    await api.delete("two")
    await api.put(endpoint_slice("three", endpoints=[pod("b")]))
    await followed.sees("a", "b")


async def test_without_a_cluster_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match="KUBECONFIG"):
        await kubernetes_api.connect(None)


def test_a_router_finds_its_workers_through_the_api_server(
    start: Start, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = Worker("old", "mixed"), Worker("new", "mixed")

    async def act(api: FakeApi) -> None:
        with start([]) as stack:
            for worker in (old, new):
                worker.start(model)
            asked = {"namespace": QUERY.namespace, "selector": QUERY.selector}
            stack.router.write_endpoints({"endpointSlices": asked})
            await asyncio.to_thread(stack.router.wait_for_readiness, 200)
            assert await answered_by(stack.url) == "old"
            await api.put(endpoint_slice("two", "mixed", [pod("new")], new.port))
            sessions = "splitwise_router_worker_sessions"
            async with asyncio.timeout(WITHIN_S):
                while await asyncio.to_thread(stack.metric, sessions) < 2:
                    pass
            leaving = endpoint_slice("one", "mixed", [pod("old", terminating=True)], old.port)
            await api.put(leaving)
            async with asyncio.timeout(WITHIN_S):
                while await answered_by(stack.url) != "new":
                    pass

    async def answered_by(url: str) -> str:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            prompt = tokens_of(model)
            answer = await client.post("/v1/completions", json=completion(prompt, len(prompt)))
        assert answer.json()["choices"][0]["text"] == WORDS
        return answer.headers["x-splitwise-token-worker"]

    async def run() -> None:
        api = await FakeApi().start()
        monkeypatch.setenv("KUBECONFIG", str(api.kubeconfig(tmp_path)))
        await api.put(endpoint_slice("one", "mixed", [pod("old")], old.port))
        try:
            await act(api)
        finally:
            await api.stop()
            for worker in (old, new):
                worker.kill()

    asyncio.run(run())
