"""Bounds of every kind: queues, deadlines, bodies, and clients that leave."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.router.conftest import Start
from tests.router.support import completion, read_stream, tokens_of
from tests.support.router import Stack, Worker


def slow(**knobs: object) -> list[Worker]:
    """Workers whose answers never end."""
    return [Worker("p0", "prompt", knobs), Worker("t0", "token", knobs | {"hang_after_tokens": 3})]


async def hang_up(client: httpx.AsyncClient, prompt: list[int]) -> None:
    """Reads the beginning of a stream and leaves."""
    body = completion(prompt, 1000, stream=True)
    async with client.stream("POST", "/v1/completions", json=body) as response:
        async for line in response.aiter_lines():
            if line:
                return


def wait_until_free(stack: Stack, blocks: int = 100_000) -> None:
    for worker in stack.workers.values():
        for _ in range(200):  # each look is a connection of its own, no busy loop
            load = worker.load()
            if load.free_blocks == blocks and load.running + load.queued_requests == 0:
                break
        else:
            pytest.fail(f"{worker.name} still holds {load}")


def test_clients_that_hang_up_free_both_legs(start: Start, model: Path) -> None:
    async def many(url: str) -> None:
        limits = httpx.Limits(max_connections=50)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=30) as client:
            await asyncio.gather(*(hang_up(client, tokens_of(model)) for _ in range(50)))

    with start(slow()) as stack:
        asyncio.run(many(stack.url))
        wait_until_free(stack)


def test_a_client_that_hangs_up_before_its_first_token_frees_both_legs(
    start: Start, model: Path
) -> None:
    workers = [Worker("p0", "prompt", {"hang_after_tokens": 0}), Worker("t0", "token")]
    with start(workers) as stack:
        body = completion(tokens_of(model), 100)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{stack.url}/v1/completions", json=body, timeout=0.3)
        wait_until_free(stack)


def test_a_deadline_before_the_first_token_is_a_504(start: Start, model: Path) -> None:
    workers = [Worker("p0", "prompt", {"hang_after_tokens": 0}), Worker("t0", "token")]
    with start(workers, request_timeout=0.5) as stack:
        body = completion(tokens_of(model), 100, stream=True)
        answer = httpx.post(f"{stack.url}/v1/completions", json=body)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "deadline_exceeded"
        wait_until_free(stack)


def test_a_deadline_amid_a_stream_is_an_error_event(start: Start, model: Path) -> None:
    async def ask(url: str) -> None:
        async with httpx.AsyncClient(base_url=url) as client:
            body = completion(tokens_of(model), 100)
            stream = await read_stream(client, "/v1/completions", body)
            assert stream.error is not None
            assert stream.error["code"] == "deadline_exceeded"
            assert stream.text
            assert not stream.done

    with start(slow(), request_timeout=1) as stack:
        asyncio.run(ask(stack.url))
        wait_until_free(stack)


def test_a_full_house_queues_some_and_refuses_the_rest(start: Start, model: Path) -> None:
    async def crowd(url: str) -> list[int]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            body = completion(tokens_of(model), 40)
            answers = await asyncio.gather(
                *(client.post("/v1/completions", json=body) for _ in range(6))
            )
            for answer in answers:
                if answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) >= 1
                    assert answer.json()["error"]["code"] == "no_capacity"
            return sorted(answer.status_code for answer in answers)

    workers = [Worker("w0", "mixed", {"max_sequences": 1, "prefill_ms": 1000})]
    with start(workers, max_queued=2) as stack:
        assert asyncio.run(crowd(stack.url)) == [200, 200, 200, 429, 429, 429]
        told = httpx.get(f"{stack.url}/queue").json()
        assert told["placedTokens"] == told["refusedTokens"] > 0, "the autoscaler hears of both"


def test_what_waits_for_a_worker_is_told(start: Start, model: Path) -> None:
    prompt = tokens_of(model)

    async def wait_for_two(url: str) -> dict[str, int]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            asking = [client.post("/v1/completions", json=completion(prompt, 40)) for _ in range(3)]
            crowd = asyncio.gather(*asking)
            while (told := (await client.get("/queue")).json())["requests"] < 2:
                assert not crowd.done()
            await crowd
            return dict(told)

    workers = [Worker("w0", "mixed", {"max_sequences": 1, "prefill_ms": 300})]
    with start(workers) as stack:
        told = asyncio.run(wait_for_two(stack.url))
        assert told["promptTokens"] == 2 * len(prompt)
        assert told["kvTokens"] == 2 * (len(prompt) + 40)
        after = httpx.get(f"{stack.url}/queue").json()
        assert after["requests"] == 0
        assert (after["placedTokens"], after["refusedTokens"]) == (3 * len(prompt), 0)


def test_streams_go_on_while_a_long_prompt_is_read(start: Start, model: Path) -> None:
    async def events_meanwhile(url: str) -> int:
        seen = 0

        async def follow(client: httpx.AsyncClient) -> None:
            nonlocal seen
            body = completion(tokens_of(model), 4000, stream=True)
            async with client.stream("POST", "/v1/completions", json=body) as response:
                async for _ in response.aiter_lines():
                    seen += 1

        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            following = asyncio.create_task(follow(client))
            while not seen:
                await asyncio.sleep(0.01)
            before = seen
            answer = await client.post("/v1/completions", json=completion("seven " * 300_000, 1))
            assert answer.json()["error"]["code"] == "context_length_exceeded"
            meanwhile = seen - before
            following.cancel()
        return meanwhile

    with start([Worker("w0", "mixed")]) as stack:
        assert asyncio.run(events_meanwhile(stack.url)) > 400


def test_without_workers_requests_are_refused_at_once(start: Start) -> None:
    with start([]) as stack:
        answer = httpx.post(f"{stack.url}/v1/completions", json=completion("x", 1))
        assert answer.status_code == 503
        assert answer.headers["retry-after"].isdigit()
        assert answer.json()["error"]["code"] == "no_workers"
        assert "0 workers listed" in stack.router.readiness()[1]


def chunks(total: int) -> Iterator[bytes]:
    for _ in range(total // 1024):
        yield b" " * 1024


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "code"),
    [
        pytest.param("GET", "/v1/nothing", None, 404, "unknown_url", id="unknown path"),
        pytest.param("GET", "/v1/completions", None, 405, "method_not_allowed", id="wrong method"),
        pytest.param("POST", "/v1/models", b"", 405, "method_not_allowed", id="read-only page"),
        pytest.param("GET", "/v1/models/gpt", None, 404, "model_not_found", id="unknown model"),
        pytest.param(
            "POST", "/v1/completions", b" " * 70_000, 413, "request_too_large", id="a large body"
        ),
        pytest.param(
            "POST", "/v1/completions", chunks(70_000), 413, "request_too_large", id="in chunks"
        ),
    ],
)
def test_refused_in_openai_form(
    shared: Stack, method: str, path: str, content: object, status: int, code: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = httpx.request(method, shared.url + path, content=content, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["code"] == code
    assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        pytest.param({"model": "gpt-4", "prompt": "x"}, 404, "model_not_found", id="model"),
        pytest.param(
            {"model": "echo", "prompt": [1] * 9000}, 400, "context_length_exceeded", id="prompt"
        ),
        pytest.param(
            {"model": "echo", "prompt": [1], "max_tokens": 10**9},
            400,
            "context_length_exceeded",
            id="more tokens than there is context",
        ),
        pytest.param({"model": "echo", "prompt": [10**6]}, 400, "invalid_token", id="token id"),
        pytest.param(
            {"model": "echo", "prompt": ["a"] * 20, "n": 8}, 400, "invalid_value", id="choices"
        ),
    ],
)
def test_what_only_the_model_can_tell_is_refused(
    shared: Stack, body: dict[str, object], status: int, code: str | None
) -> None:
    answer = httpx.post(f"{shared.url}/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("trace-1.a:b_c", True, id="a sane id is kept"),
        pytest.param("two words", False, id="spaces are not"),
        pytest.param("x" * 129, False, id="nor is a long one"),
    ],
)
def test_request_id(shared: Stack, given: str, kept: bool) -> None:
    headers = {"x-request-id": given}
    body = completion("x", 1)
    answer = httpx.post(f"{shared.url}/v1/completions", json=body, headers=headers)
    assert (answer.headers["x-request-id"] == given) is kept
