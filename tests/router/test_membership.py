"""Workers come and go while streams run: INV-9. Nothing goes to those that do not fit: INV-10."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from splitwise_core.rpc.worker_pb2 import FromWorker, Load, ToWorker, Update
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet
from splitwise_router.legs import Leg
from tests.router.conftest import Start
from tests.router.support import WORDS, completion, read_stream, tokens_of
from tests.support.cluster import eventually
from tests.support.router import Stack, Worker

A, B = (Endpoint(f"127.0.0.1:{n}", f"w{n}", "mixed", "mixed") for n in (1, 2))


# ---- the rule, without a network ----


async def listed(fleet: Fleet, *endpoints: Endpoint) -> None:
    fleet.apply(frozenset(endpoints))
    await asyncio.sleep(0)


def chosen(fleet: Fleet) -> str | None:
    found, _ = fleet.find(1, 1)
    return found.prompt.endpoint.pod if found else None


def leg() -> Leg:
    return Leg(1, lambda update: None, 1, 1, 1)


def not_ready(endpoint: Endpoint) -> Endpoint:
    return Endpoint(*endpoint.identity, ready=False)


async def test_a_worker_that_is_not_ready_keeps_its_session_and_gets_nothing(fleet: Fleet) -> None:
    await listed(fleet, A, B)
    before = fleet.sessions
    await listed(fleet, not_ready(A), B)
    assert (chosen(fleet), fleet.sessions) == ("w2", before)
    await listed(fleet, A, B)
    assert (chosen(fleet), fleet.sessions) == ("w1", before)


async def test_a_worker_that_vanished_stays_until_its_last_leg_has_ended(fleet: Fleet) -> None:
    await listed(fleet, A, B)
    session = fleet.sessions[0]
    running = leg()
    session.start(running, ToWorker())
    await listed(fleet, B)
    assert session in fleet.sessions
    assert chosen(fleet) == "w2"
    session.cancel(running)
    session._receive(FromWorker(load=Load(ready=True)))
    assert session not in fleet.sessions


async def test_a_worker_that_comes_back_meanwhile_is_the_same_one(fleet: Fleet) -> None:
    await listed(fleet, A)
    (session,) = fleet.sessions
    session.start(leg(), ToWorker())
    await listed(fleet)
    assert chosen(fleet) is None
    await listed(fleet, A)
    assert chosen(fleet) == "w1"
    assert fleet.sessions == [session]


async def test_a_worker_that_vanished_with_nothing_to_do_is_gone_at_once(fleet: Fleet) -> None:
    await listed(fleet, A)
    await listed(fleet)
    assert fleet.sessions == []


async def test_a_vanished_worker_whose_stream_breaks_is_gone(fleet: Fleet) -> None:
    await listed(fleet, A)
    (session,) = fleet.sessions
    ends: list[Update] = []
    session.start(Leg(1, ends.append, 1, 1, 1), ToWorker())
    await listed(fleet)
    session._lose("the worker closed the stream")
    assert (len(ends), fleet.sessions) == (1, [])


# ---- real processes ----


async def stream_while(
    stack: Stack, model: Path, act: Callable[[], Any], periods: int = 20
) -> tuple[str, bool]:
    """The text of a long stream, during which `act` is called once, and whether it ended."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
        prompt = tokens_of(model)
        body = completion(prompt, periods * len(prompt))
        reading = asyncio.create_task(read_stream(client, "/v1/completions", body))
        inflight = "splitwise_router_inflight_requests"
        while not await asyncio.to_thread(stack.metric, inflight):
            await asyncio.sleep(0.01)
        await asyncio.to_thread(act)
        stream = await reading
    return stream.text, stream.done


def test_a_stream_on_a_worker_that_vanished_ends_whole(start: Start, model: Path) -> None:
    workers = [Worker("p0", "prompt"), Worker("t0", "token", {"step_ms": 4})]
    with start(workers) as stack:

        def vanish() -> None:
            stack.router.list_workers([])
            assert "0 workers listed" in stack.router.wait_for_readiness(503)
            refused = httpx.post(f"{stack.url}/v1/completions", json=completion("x", 2))
            assert refused.status_code == 503
            assert stack.metric("splitwise_router_worker_sessions") == 1, "the one that streams"

        assert asyncio.run(stream_while(stack, model, vanish)) == (20 * WORDS, True)
        assert stack.metric("splitwise_router_retries_total") == 0
        eventually(
            lambda: stack.metric("splitwise_router_worker_sessions") == 0, 10, lambda: "it stays"
        )
        assert workers[1].load().running == 0


def test_a_worker_with_another_tokenizer_gets_no_work(
    start: Start, model: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "tokenizer.json").write_text("{}")
    stranger, none = Worker("t1", "token"), Worker("t2", "token", {"tokenizer": ""})
    prompt = Worker("p0", "prompt")
    with start([]) as stack:
        for worker, directory in ((prompt, model), (stranger, other), (none, model)):
            worker.start(directory)
        try:
            stack.router.list_workers([prompt, stranger, none])
            reads = stack.router.readiness
            eventually(lambda: "3 connected" in reads()[1], 30, lambda: reads()[1])
            status, said = reads()
            assert status == 503
            assert "no token worker" in said
            assert "t1 has another tokenizer.json" in said
            assert "t2 has another tokenizer.json" in said
            log = stack.router.log_file.read_text()
            assert log.count("a worker that does not fit gets no work") == 2
        finally:
            for worker in (prompt, stranger, none):
                worker.kill()
