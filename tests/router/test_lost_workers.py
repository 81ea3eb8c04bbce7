"""A lost worker costs time, never a token: INV-1 and INV-2."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.router.conftest import Start
from tests.router.support import WORDS, Stream, completion, read_stream, tokens_of
from tests.support.router import Worker


def ask(url: str, model: Path, periods: int = 3) -> Stream:
    async def once() -> Stream:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            prompt = tokens_of(model)
            body = completion(prompt, periods * len(prompt))
            return await read_stream(client, "/v1/completions", body)

    return asyncio.run(once())


@pytest.mark.parametrize(
    ("lost", "knobs"),
    [
        pytest.param("prompt", {"die_after_tokens": 0}, id="prompt worker before the first token"),
        pytest.param("token", {"die_after_tokens": 0}, id="token worker after the first token"),
        pytest.param("token", {"die_after_tokens": 11}, id="token worker amid the stream"),
        pytest.param("token", {"fail_count": 1}, id="transfer"),
        pytest.param(
            "token", {"fail_count": 1, "fail_after_tokens": 5}, id="a leg amid the stream"
        ),
        pytest.param(
            "prompt", {"fail_count": 1, "fail_outcome": "DIGEST_MISMATCH"}, id="damaged KV"
        ),
        pytest.param("token", {"blocks": 0}, id="a worker that is full"),
        pytest.param(
            "token", {"fail_count": 1, "fail_outcome": "NO_CAPACITY"}, id="a worker that refuses"
        ),
    ],
)
def test_another_worker_goes_on_after_the_loss_of(
    start: Start, model: Path, lost: str, knobs: dict[str, object]
) -> None:
    workers = [
        Worker("p0", "prompt", knobs if lost == "prompt" else {}),
        Worker("t0", "token", knobs if lost == "token" else {}),
        Worker("p1", "prompt"),
        Worker("t1", "token"),
    ]
    with start(workers) as stack:
        streams = [ask(stack.url, model) for _ in range(2)]
        retries = stack.metric("splitwise_router_retries_total")
    assert retries == ("blocks" not in knobs)  # nothing is sent to a worker that is full
    for stream in streams:
        assert stream.error is None
        assert (stream.text, stream.finish, stream.done) == (3 * WORDS, "length", True)


def test_a_worker_killed_while_many_streams_run(start: Start, model: Path) -> None:
    workers = [Worker("p0", "prompt"), Worker("t0", "token"), Worker("t1", "token")]

    async def many(url: str) -> list[Stream]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            prompt = tokens_of(model)
            body = completion(prompt, 10 * len(prompt))
            asked = [
                asyncio.create_task(read_stream(client, "/v1/completions", body)) for _ in range(20)
            ]
            async with client.stream("POST", "/v1/completions", json=body | {"stream": True}) as r:
                async for line in r.aiter_lines():
                    if line:
                        break  # the first token has come: the others run as well
            await asyncio.to_thread(workers[1].kill)
            return await asyncio.gather(*asked)

    with start(workers) as stack:
        for stream in asyncio.run(many(stack.url)):
            assert (stream.text, stream.done) == (10 * WORDS, True)


def test_a_stream_that_cannot_go_on_ends_with_an_error_event(start: Start, model: Path) -> None:
    knobs = {"fail_count": 100, "fail_after_tokens": 5}
    workers = [Worker("p0", "prompt"), Worker("t0", "token", knobs)]
    with start(workers, retries=0) as stack:
        stream = ask(stack.url, model)
        assert stream.status == 200
        assert stream.error is not None
        assert "TRANSPORT_FAILED" in stream.error["message"]
        assert not stream.done
        assert (3 * WORDS).startswith(stream.text)
        assert stream.text


def test_what_fails_before_the_first_token_is_an_http_error(start: Start, model: Path) -> None:
    workers = [Worker("p0", "prompt", {"fail_count": 100}), Worker("t0", "token")]
    with start(workers, retries=0) as stack:
        body = completion(tokens_of(model), 9, stream=True)
        answer = httpx.post(f"{stack.url}/v1/completions", json=body)
    assert answer.status_code == 503
    assert answer.headers["retry-after"].isdigit()
    assert answer.json()["error"]["code"] == "worker_lost"


def test_a_worker_that_comes_back_serves_again(start: Start, model: Path) -> None:
    worker = Worker("w0", "mixed")
    with start([worker]) as stack:
        worker.kill()
        assert "no prompt worker" in stack.router.wait_for_readiness(503)
        refused = httpx.post(f"{stack.url}/v1/completions", json=completion("x", 1))
        assert refused.status_code == 503
        assert "retry-after" in refused.headers
        worker.start()
        stack.router.wait_for_readiness(200)
        assert ask(stack.url, model).text == 3 * WORDS


def test_a_request_waits_for_a_worker_that_is_listed_and_was_not_met_yet(
    start: Start, model: Path
) -> None:
    old, new = Worker("old", "mixed"), Worker("new", "mixed")
    with start([old]) as stack, ThreadPoolExecutor() as asking:
        stack.router.list_workers([new])
        stack.router.wait_for_readiness(503)
        answer = asking.submit(ask, stack.url, model)
        time.sleep(0.5)
        new.start(model)
        try:
            assert answer.result(timeout=20).headers["x-splitwise-token-worker"] == "new"
        finally:
            new.kill()


def test_workers_come_and_go_with_their_list(start: Start, model: Path) -> None:
    old, new = Worker("old", "mixed"), Worker("new", "mixed")
    with start([old]) as stack:
        new.start(model)
        try:
            stack.router.list_workers([])
            stack.router.wait_for_readiness(503)
            stack.router.list_workers([new])
            stack.router.wait_for_readiness(200)
            assert ask(stack.url, model).headers["x-splitwise-token-worker"] == "new"
            stack.router.endpoints.write_text("{damaged")
            assert ask(stack.url, model).text == 3 * WORDS
        finally:
            new.kill()


def test_a_transfer_given_up_after_the_only_token_is_no_failure(start: Start, model: Path) -> None:
    given_up = {"fail_count": 1, "fail_outcome": "CANCELLED"}
    workers = [Worker("p0", "prompt", {"prefill_ms": 300}), Worker("t0", "token", given_up)]
    with start(workers) as stack:  # the token worker's word comes first
        prompt = tokens_of(model)
        body = completion(prompt, 5, stop_token_ids=[prompt[0]])
        answer = httpx.post(f"{stack.url}/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
