"""When a cluster is looked at again."""

import asyncio

import pytest

from splitwise_operator import worklist
from splitwise_operator.worklist import Worklist

KEY, OTHER = ("ns", "a"), ("ns", "b")


class Looks:
    """Notes every look; each succeeds or fails as it is told."""

    def __init__(self, outcomes: list[bool] | None = None) -> None:
        self.seen: list[tuple[str, str]] = []
        self.happened = asyncio.Event()
        self._outcomes = outcomes or []

    async def look(self, key: tuple[str, str]) -> bool:
        self.seen.append(key)
        self.happened.set()
        return self._outcomes.pop(0) if self._outcomes else True

    async def one(self) -> None:
        async with asyncio.timeout(5):
            await self.happened.wait()
        self.happened.clear()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worklist, "PAUSE_S", 0.001)
    monkeypatch.setattr(worklist, "RETRY_S", (0.001, 0.002))


async def test_a_burst_of_news_is_one_look(quick: None) -> None:
    looks = Looks()
    work = Worklist(looks.look)
    for _ in range(9):
        work.wake(KEY, is_urgent=True)
    await looks.one()
    await asyncio.sleep(0.05)
    assert looks.seen == [KEY]
    await work.close()


async def test_what_failed_is_tried_again_until_it_is_done(quick: None) -> None:
    looks = Looks([False, False, True])
    work = Worklist(looks.look)
    work.wake(KEY, is_urgent=True)
    for _ in range(2):
        await looks.one()
        work.wake(KEY, is_urgent=True)
    await looks.one()
    assert looks.seen == [KEY] * 3
    await work.close()


async def test_after_a_look_only_what_is_urgent_comes_at_once(quick: None) -> None:
    looks = Looks()
    work = Worklist(looks.look)
    work.wake(KEY, is_urgent=False)
    await looks.one()
    work.wake(KEY, is_urgent=False)
    await asyncio.sleep(0.05)
    assert looks.seen == [KEY], "it is calm for a while"
    work.wake(KEY, is_urgent=True)
    await looks.one()
    assert looks.seen == [KEY, KEY]
    await work.close()


async def test_a_cluster_that_is_forgotten_is_looked_at_no_more(quick: None) -> None:
    looks = Looks()
    work = Worklist(looks.look)
    work.wake(KEY, is_urgent=True)
    await work.forget(KEY)
    work.wake(OTHER, is_urgent=True)
    await looks.one()
    assert looks.seen == [OTHER]
    await work.close()
