"""Requests that no field alone makes wrong: refused with the fix, and nothing is left of them."""

import httpx
import openai
import psutil
import pytest

from tests.support.cluster import Cluster, all_blocks_are_free, eventually
from tests.support.door import BASES, CHAT, JSON, TEXT, Body, Door, error_of

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "code", "words"),
    [
        pytest.param(
            TEXT, {"model": "gpt-4"}, 404, "model", "model_not_found", "'tiny'", id="model"
        ),
        pytest.param(
            CHAT, {"model": "tiny:7b"}, 404, "model", "model_not_found", "'tiny'", id="chat model"
        ),
        pytest.param(
            CHAT,
            {"stream_options": {"include_usage": True}},
            400,
            "stream_options",
            "invalid_value",
            "stream: true",
            id="stream options without a stream",
        ),
        pytest.param(
            CHAT, {"top_logprobs": 2}, 400, "top_logprobs", "invalid_value", "logprobs: true",
            id="alternatives without log-probabilities",
        ),
        pytest.param(
            CHAT, {"max_completion_tokens": 2}, 400, "max_tokens", "invalid_value", "one of them",
            id="two names of one limit",
        ),
        pytest.param(
            TEXT, {"prompt": ["a"] * 20, "n": 8}, 400, "prompt", "invalid_value", "Send several",
            id="too many choices",
        ),
        pytest.param(
            TEXT, {"prompt": ""}, 400, "prompt", "invalid_value", "at least one", id="no text"
        ),
        pytest.param(
            TEXT, {"temprature": 1}, 400, "temprature", "unknown_parameter", "'temperature'",
            id="a near name",
        ),
        pytest.param(
            CHAT, {"max_token": 1}, 400, "max_token", "unknown_parameter", "'max_tokens'",
            id="another near name",
        ),
        pytest.param(
            CHAT, {"zzz": None, "yyy": 1}, 400, "yyy", "unknown_parameter", "Leave it out",
            id="a name like no other",
        ),
        pytest.param(
            TEXT, {"logprobs": True}, 400, "logprobs", "invalid_type", "integer",
            id="log-probabilities as a chat asks for them",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_explained(
    door: Door, path: str, body: Body, status: int, param: str, code: str, words: str
) -> None:
    error = door.refused(path, BASES[path] | body, status)
    assert (error["param"], error["code"]) == (param, code)
    assert words in error["message"]


def prompts_too_long(context: int) -> list[tuple[str, Body]]:
    long = "1 " * context
    return [
        (TEXT, {"prompt": [7] * context}),
        (TEXT, {"prompt": [[7], [7] * context]}),
        (TEXT, {"prompt": long}),
        (CHAT, {"messages": [{"role": "user", "content": long}]}),
        (CHAT, {"messages": [{"role": "user", "content": "1 2"}] * context}),
    ]


@pytest.mark.parametrize("which", range(5), ids=["tokens", "lists", "text", "chat", "messages"])
def test_a_prompt_must_fit_the_context(door: Door, which: int) -> None:
    path, body = prompts_too_long(door.context)[which]
    error = door.refused(path, BASES[path] | body)
    assert error["param"] == ("messages" if path == CHAT else "prompt")
    assert error["code"] == "context_length_exceeded"
    assert str(door.context) in error["message"]


def test_prompt_and_answer_must_fit_the_context_together(door: Door) -> None:
    fitting = BASES[TEXT] | {"prompt": [7] * (door.context - 1)}
    answer = door.http.post(TEXT, json=fitting)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 1
    error = door.refused(TEXT, fitting | {"max_tokens": 2})
    assert (error["param"], error["code"]) == ("max_tokens", "context_length_exceeded")
    assert "at most 1" in error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", CHAT, 405, "method_not_allowed"),
        ("PUT", TEXT, 405, "method_not_allowed"),
        ("POST", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/gpt-4", 404, "model_not_found"),
        ("POST", "/v1/embeddings", 404, "unknown_url"),
        ("POST", "/v1/chat/completion", 404, "unknown_url"),
        ("POST", f"{TEXT}/", 404, "unknown_url"),
        ("GET", "/", 404, "unknown_url"),
    ],
)
def test_other_doors(door: Door, method: str, path: str, status: int, code: str) -> None:
    answer = door.http.request(method, path, json={})
    assert answer.status_code == status
    assert error_of(answer)["code"] == code


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({"temperature": "0"}, openai.BadRequestError, id="400"),
        pytest.param({"model": "gpt-4"}, openai.NotFoundError, id="404"),
        pytest.param({"prompt": "x" * 2**21}, openai.APIStatusError, id="413"),
        pytest.param({"extra_body": {"tools": []}}, openai.BadRequestError, id="unsupported"),
        pytest.param({"stream": True, "max_tokens": 0}, openai.BadRequestError, id="stream"),
    ],
)
def test_the_official_client_raises_what_it_documents(
    door: Door, asked: Body, expected: type[openai.APIStatusError]
) -> None:
    with (
        openai.OpenAI(base_url=f"{door.url}/v1", api_key="none", max_retries=0) as client,
        pytest.raises(expected) as caught,
    ):
        client.completions.create(**BASES[TEXT] | asked)
    assert isinstance(caught.value.body, dict)
    assert caught.value.code == caught.value.body["code"]


@pytest.mark.parametrize("ok", [{"stop": None}, {"stop": []}, {"logit_bias": {}}, {"n": 2}])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_what_looks_odd_and_is_right(door: Door, path: str, ok: Body) -> None:
    answer = door.http.post(path, json=BASES[path] | ok)
    assert answer.status_code == 200, answer.text


def router_process(cluster: Cluster) -> psutil.Process:
    (pod,) = cluster.pods("router")
    return psutil.Process(pod["containers"][0]["pid"])


def test_hundreds_of_bad_requests_leave_nothing_in_the_router(door: Door, cluster: Cluster) -> None:
    def bad_requests() -> None:
        for number in range(150):
            door.refused(TEXT, BASES[TEXT] | {"temperature": "x" * 10_000, "user": str(number)})
            door.refused(TEXT, b"[" * 10_000)
        for _ in range(10):
            httpx.post(door.url + TEXT, content=b"x" * (2**21 + 1), headers=JSON)
            door.says(b"garbage\r\n\r\n", until=b"\r\n")

    router = router_process(cluster)
    bad_requests()  # what is allocated once is allocated now
    files, bytes_before = router.num_fds(), router.memory_info().rss
    bad_requests()
    eventually(lambda: router.num_fds() <= files, 10, lambda: f"{router.num_fds()} > {files}")
    assert router.memory_info().rss - bytes_before < 8 << 20
    all_blocks_are_free(cluster)
