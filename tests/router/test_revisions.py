"""While a new revision takes over, requests stay with workers of one: INV-7."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from splitwise_core.metric import Component
from splitwise_core.rpc.worker_pb2 import Sampling
from splitwise_core.telemetry import Telemetry
from splitwise_router.admission import Admission
from splitwise_router.api.errors import ApiError
from splitwise_router.attempt import Generation
from splitwise_router.discovery import Endpoint
from splitwise_router.fleet import Fleet, Revision
from splitwise_router.minting import no_capability
from tests.router.conftest import Start
from tests.router.support import WORDS, Stream, completion, read_stream, tokens_of
from tests.support.cluster import eventually
from tests.support.router import Stack, Worker


def worker(name: str, role: str, revision: str) -> Worker:
    return Worker(f"{role}-{name}", role, {"revision": revision, "prefill_ms": 5})


async def pairs_of(stack: Stack, model: Path, requests: int) -> set[tuple[str, str]]:
    """The two workers of each of many requests at once, all of them answered right."""
    async with httpx.AsyncClient(base_url=stack.url, timeout=30) as client:
        prompt = tokens_of(model)
        body = completion(prompt, len(prompt))
        asked = (read_stream(client, "/v1/completions", body) for _ in range(requests))
        streams = await asyncio.gather(*asked)
    assert [stream.text for stream in streams] == [WORDS] * requests
    named = ("x-splitwise-prompt-worker", "x-splitwise-token-worker")
    return {(stream.headers[named[0]], stream.headers[named[1]]) for stream in streams}


def test_both_revisions_serve_and_no_request_crosses(start: Start, model: Path) -> None:
    workers = [
        worker(name, role, revision)
        for name, revision in (("old", "1"), ("new", "2"))
        for role in ("prompt", "token")
    ]
    with start(workers) as stack:
        pairs = asyncio.run(pairs_of(stack, model, 40))
    assert pairs == {("prompt-old", "token-old"), ("prompt-new", "token-new")}


def test_a_revision_that_is_half_there_gets_nothing(start: Start, model: Path) -> None:
    half = [worker("new", "token", "2")]
    whole = [worker("old", role, "1") for role in ("prompt", "token")]
    with start([*half, *whole]) as stack:
        pairs = asyncio.run(pairs_of(stack, model, 10))
    assert pairs == {("prompt-old", "token-old")}


def test_two_halves_are_not_ready_and_a_request_waits_for_the_rest(
    start: Start, model: Path
) -> None:
    prompt, token = worker("old", "prompt", "1"), worker("new", "token", "2")
    rest = worker("old", "token", "1")
    with start([]) as stack:
        prompt.start(model)
        token.start(model)
        try:
            stack.router.list_workers([prompt, token])
            reads = stack.router.readiness
            eventually(lambda: "2 connected" in reads()[1], 30, lambda: reads()[1])
            status, said = reads()
            assert status == 503
            assert "worker of the revision that the others have is ready" in said
            pairs = asyncio.run(waited_for(stack, model, [prompt, token], rest))
            assert pairs == {("prompt-old", "token-old")}
        finally:
            for one in (prompt, token, rest):
                if one.process is not None:
                    one.kill()


async def waited_for(stack: Stack, model: Path, here: list[Worker], rest: Worker) -> set[Any]:
    """The workers of a request that came before `rest` did."""
    asked = asyncio.create_task(pairs_of(stack, model, 1))
    queued = "splitwise_router_queued_requests"
    while not await asyncio.to_thread(stack.metric, queued):
        assert not asked.done(), "it was refused at once"
        await asyncio.sleep(0.01)
    await asyncio.to_thread(rest.start, model)
    stack.router.list_workers([*here, rest])
    return await asked


# ---- a stream goes on where it began, or not at all: INV-10 ----


def test_a_retry_waits_for_a_worker_of_the_revision_it_began_on(start: Start, model: Path) -> None:
    dies = {"die_after_tokens": 11}
    began = [worker("1", "prompt", "1"), worker("1", "token", "1")]
    began[1].knobs |= dies
    others = [worker("2", role, "2") for role in ("prompt", "token")]
    for other in others:  # a leg that comes here would kill it
        other.knobs |= {"die_after_tokens": 0}

    async def ask(stack: Stack) -> Stream:
        async with httpx.AsyncClient(base_url=stack.url, timeout=60) as client:
            body = completion(tokens_of(model), 3 * len(tokens_of(model)))
            asked = asyncio.create_task(read_stream(client, "/v1/completions", body))
            assert began[1].process is not None
            await asyncio.to_thread(began[1].process.wait)
            await asyncio.sleep(0.5)  # in which it finds nobody of its own
            began[1].kill()
            del began[1].knobs["die_after_tokens"]
            await asyncio.to_thread(began[1].start)
            return await asked

    with start([*began, *others]) as stack:
        stream = asyncio.run(ask(stack))
        assert stream.headers["x-splitwise-token-worker"] == "token-1"
        assert (stream.text, stream.done) == (3 * WORDS, True)
        assert [other.process.poll() for other in others if other.process] == [None, None]


def generation(revision: Revision | None) -> Generation:
    return Generation("r", [1, 2], Sampling(max_tokens=5), 4e9, revision=revision)


async def admission_to(fleet: Fleet, *revisions: str) -> Admission:
    """An admission to mixed workers of these revisions."""
    fleet.apply([Endpoint(f"127.0.0.1:{r}", f"w{r}", r, "mixed") for r in revisions])
    await asyncio.sleep(0)
    return Admission(fleet, 8, 10.0, Telemetry(Component.ROUTER), no_capability)


async def test_only_its_own_revision_is_good_enough(fleet: Fleet) -> None:
    admission = await admission_to(fleet, "1", "2")
    for revision in ("2", "1", "2"):
        attempt = await admission.start(generation((revision, b"")))
        assert attempt.found.revision == (revision, b"")


async def test_a_stream_whose_revision_is_gone_ends_and_says_why(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitwise_router.admission.QUEUE_WAIT_S", 0.2)
    admission = await admission_to(fleet, "2")
    waiting = asyncio.create_task(admission.start(generation(("1", b"")), fleet.sessions))
    await asyncio.sleep(0)
    new = await asyncio.wait_for(admission.start(generation(None)), 0.1)
    assert new.found.revision == ("2", b""), "nobody waits behind it"
    with pytest.raises(ApiError) as raised:
        await waiting
    error = raised.value
    assert (error.status, error.code) == (503, "revision_gone")
    assert "revision '1'" in str(error)
