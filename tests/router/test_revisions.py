"""While a new revision takes over, KV moves only between workers of the same one: INV-7."""

import asyncio
from pathlib import Path

import httpx

from tests.router.conftest import Start
from tests.router.support import WORDS, completion, read_stream, tokens_of
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


def test_two_halves_are_not_ready_and_say_what_is_missing(start: Start) -> None:
    prompt, token = worker("old", "prompt", "1"), worker("new", "token", "2")
    with start([]) as stack:
        prompt.start()
        token.start()
        try:
            stack.router.list_workers([prompt, token])
            reads = stack.router.readiness
            eventually(lambda: "2 connected" in reads()[1], 30, lambda: reads()[1])
            status, said = reads()
            assert status == 503
            assert "no token worker" in said or "no prompt worker" in said
            refused = httpx.post(f"{stack.url}/v1/completions", json=completion("x", 2))
            assert refused.status_code == 503
        finally:
            prompt.kill()
            token.kill()
