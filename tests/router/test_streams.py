"""Two workers, one stream: what a client gets when all goes well."""

import asyncio
from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI

from tests.router.conftest import Start
from tests.router.support import WORDS, completion, read_stream, tokens_of
from tests.support.echo_worker import KV_BYTES_PER_TOKEN
from tests.support.router import Stack, Worker


def test_every_token_comes_once_and_in_order(shared: Stack, model: Path) -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(base_url=shared.url) as client:
            prompt = tokens_of(model)
            body = completion(prompt, 5 * len(prompt))
            stream = await read_stream(client, "/v1/completions", body)
            assert (stream.text, stream.finish, stream.done) == (5 * WORDS, "length", True)
            whole = (await client.post("/v1/completions", json=body)).json()
            assert whole["choices"][0]["text"] == stream.text
            assert whole["usage"]["completion_tokens"] == 5 * len(prompt)

    asyncio.run(ask())


def test_tokens_of_a_token_worker_that_is_early_wait_for_the_first_one(
    start: Start, model: Path
) -> None:
    workers = [Worker("p0", "prompt", {"prefill_ms": 100}), Worker("t0", "token")]
    prompt = tokens_of(model)
    with start(workers) as stack:
        answer = httpx.post(f"{stack.url}/v1/completions", json=completion(prompt, len(prompt)))
    assert answer.json()["choices"][0]["text"] == WORDS


def test_headers_and_usage_tell_where_and_how_long(shared: Stack, model: Path) -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(base_url=shared.url) as client:
            prompt = tokens_of(model)
            stream = await read_stream(client, "/v1/completions", completion(prompt, 4))
            assert stream.headers["x-splitwise-prompt-worker"] == "p0"
            assert stream.headers["x-splitwise-token-worker"] == "t0"
            assert stream.usage["prompt_tokens"] == len(prompt)
            assert stream.usage["completion_tokens"] == 4
            assert stream.usage["splitwise"] == {
                "queue_ms": pytest.approx(1),
                "prefill_ms": pytest.approx(2),
                "transfer_ms": pytest.approx(3),
                "first_decode_ms": pytest.approx(4),
                "kv_bytes": len(prompt) * KV_BYTES_PER_TOKEN,
                "transport": "grpc",
            }

    asyncio.run(ask())


@pytest.mark.parametrize(
    ("role", "max_tokens"),
    [pytest.param("mixed", 4, id="a mixed worker"), pytest.param("prompt", 1, id="one token")],
)
def test_nothing_is_moved_for(start: Start, model: Path, role: str, max_tokens: int) -> None:
    workers = [Worker("w0", role), *([Worker("t0", "token")] if role == "prompt" else [])]
    with start(workers) as stack:
        body = completion(tokens_of(model), max_tokens)
        usage = httpx.post(f"{stack.url}/v1/completions", json=body).json()["usage"]
    assert usage["completion_tokens"] == max_tokens
    assert usage["splitwise"]["kv_bytes"] == 0
    assert usage["splitwise"]["transport"] == "none"


def test_a_stop_string_over_several_tokens_is_never_sent(shared: Stack, model: Path) -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(base_url=shared.url) as client:
            body = completion(tokens_of(model), 500, stop=["six seven"])
            stream = await read_stream(client, "/v1/completions", body)
            assert stream.text == WORDS.partition("six seven")[0]
            assert (stream.finish, stream.done) == ("stop", True)

    asyncio.run(ask())
    assert_all_is_free(shared)


def test_a_stop_token_is_counted_and_not_shown(shared: Stack, model: Path) -> None:
    prompt = tokens_of(model)
    body = completion(prompt, 100, stop_token_ids=[prompt[-1]])
    answer = httpx.post(f"{shared.url}/v1/completions", json=body).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == prompt.index(prompt[-1]) + 1
    assert len(answer["choices"][0]["text"]) < len(WORDS)


def test_choices_of_several_prompts_come_side_by_side(shared: Stack, model: Path) -> None:
    async def ask() -> None:
        async with httpx.AsyncClient(base_url=shared.url) as client:
            prompts = [tokens_of(model, "first prompt"), tokens_of(model, "the second")]
            count = max(map(len, prompts))
            body = completion(prompts, count, n=2)
            stream = await read_stream(client, "/v1/completions", body)
            texts = dict.fromkeys(range(4), "")
            for choice in stream.choices:
                texts[choice["index"]] += choice["text"]
            for index, text in texts.items():
                assert text.startswith(("first prompt", "the second")[index // 2])
            assert stream.usage["completion_tokens"] == 4 * count
            whole = (await client.post("/v1/completions", json=body)).json()
            assert {c["index"]: c["text"] for c in whole["choices"]} == texts

    asyncio.run(ask())


def test_the_official_client_reads_chat_streams_and_answers(shared: Stack) -> None:
    async def ask() -> None:
        async with AsyncOpenAI(base_url=f"{shared.url}/v1", api_key="none") as client:
            messages = [{"role": "user", "content": "hello"}]
            options = {"extra_body": {"ignore_eos": True}, "max_tokens": 12, "seed": 3}
            whole = await client.chat.completions.create(
                model="echo", messages=messages, logprobs=True, top_logprobs=2, **options
            )
            message = whole.choices[0]
            assert message.finish_reason == "length"
            assert message.logprobs is not None
            assert len(message.logprobs.content or []) == 12
            stream = await client.chat.completions.create(
                model="echo", messages=messages, stream=True, **options
            )
            parts = [c.choices[0].delta.content or "" async for c in stream]
            assert "".join(parts) == message.message.content
            assert [model.id async for model in client.models.list()] == ["echo"]

    asyncio.run(ask())


def test_metrics_count_requests_tokens_and_stages(shared: Stack, model: Path) -> None:
    names = ("splitwise_router_output_tokens_total", "splitwise_request_transfer_seconds_count")
    before = [shared.metric(name) for name in names]
    httpx.post(f"{shared.url}/v1/completions", json=completion(tokens_of(model), 7))
    assert [shared.metric(name) for name in names] == [before[0] + 7, before[1] + 1]
    assert shared.metric("splitwise_router_inflight_requests") == 0
    assert shared.metric('splitwise_router_worker_sessions{pool="token",role="token"}') == 1


def assert_all_is_free(stack: Stack) -> None:
    """A new session's first message says that nothing is held; cancels went before it."""
    for worker in stack.workers.values():
        load = worker.load()
        assert (load.free_blocks, load.running, load.queued_requests) == (100_000, 0, 0)
