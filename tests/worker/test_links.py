"""Links: a router's question goes to the sidecar, and every router hears the answer."""

import asyncio

import pytest

from splitwise_core.rpc import kv_pb2, worker_pb2
from splitwise_worker import sessions
from splitwise_worker.sessions import Sessions
from tests.worker.listening_sidecar import WAIT_S
from tests.worker.support import OK, PEER
from tests.worker.test_server import Router, Served, served

__all__ = ["served"]


def link(peer: str = PEER, bytes_per_s: float = 5.0) -> kv_pb2.Link:
    return kv_pb2.Link(peer=peer, outcome=OK, transport="shm", bytes_per_s=bytes_per_s)


def question(peer: str = PEER) -> worker_pb2.ToWorker:
    asked = kv_pb2.MeasureLink(peer=peer, max_age_s=30)
    return worker_pb2.ToWorker(measure_link=asked)


async def links(router: Router) -> list[kv_pb2.Link]:
    """The next links that the router is told of."""
    while True:
        if found := (await router.read()).links:
            return list(found)


async def test_a_question_goes_to_the_sidecar_and_every_router_hears_the_answer(
    served: Served,
) -> None:
    async with served.router() as asks, served.router() as listens:
        await asks.send(question())
        async with asyncio.timeout(WAIT_S):
            while not (heard := served.rig.sidecar.heard()):
                await asyncio.sleep(0.01)
        assert [m.measure_link.peer for m in heard] == [PEER]
        served.sessions.deliver_link(link())
        assert [await links(router) for router in (asks, listens)] == [[link()]] * 2


async def test_a_router_that_comes_later_is_told_the_last_word_on_each_link(
    served: Served,
) -> None:
    for told in (link("a"), link("b"), link("a", 9.0)):
        served.sessions.deliver_link(told)
    async with served.router() as router:
        assert router.first.links == [link("b"), link("a", 9.0)]


@pytest.mark.parametrize("peer", ["", "x" * 257], ids=["none", "too long"])
async def test_a_question_on_no_peer_ends_nothing(served: Served, peer: str) -> None:
    async with served.router() as router:
        await router.send(question(peer), question())
        async with asyncio.timeout(WAIT_S):
            while not (heard := served.rig.sidecar.heard()):
                await asyncio.sleep(0.01)
        assert [m.measure_link.peer for m in heard] == [PEER]


def test_links_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_LINKS", 2)
    known = Sessions()
    for peer in "abc":
        known.deliver_link(link(peer))
    assert [told.peer for told in known.links] == ["b", "c"]
