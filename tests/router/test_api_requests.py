"""What the API takes, and how it refuses everything else."""

import json
from typing import Any

import pytest
from openai.types import completion_create_params as text_create_params
from openai.types.chat import completion_create_params

from splitwise_router.api.errors import ApiError
from splitwise_router.api.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    parse_chat,
    parse_completion,
)

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
COMPLETION: dict[str, Any] = {"model": "m", "prompt": "hi"}


def refused(
    document: Any,
    parse: Any = parse_chat,
    content_type: str | None = None,
    status: int = 400,
) -> ApiError:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(ApiError) as caught:
        parse(body, content_type)
    error = caught.value
    assert error.status == status
    assert set(error.body()["error"]) == {"message", "type", "param", "code"}  # type: ignore[call-overload]
    return error


WRONG: list[tuple[str, Any]] = [
    ("model", ""),
    ("model", 7),
    ("stream", "yes"),
    ("stream", 1),
    ("n", 0),
    ("n", 9),
    ("n", 1.5),
    ("n", True),
    ("n", "2"),
    ("seed", "1"),
    ("seed", 2**63),
    ("seed", 1.5),
    ("stop", 7),
    ("stop", [7]),
    ("stop", ["a"] * 5),
    ("stop", ""),
    ("stop", ["a", ""]),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", "5"),
    ("max_tokens", 2.5),
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", "1"),
    ("temperature", True),
    ("top_p", 0),
    ("top_p", 1e-50),
    ("top_p", 1.1),
    ("top_p", "x"),
    ("top_k", -2),
    ("top_k", 1.5),
    ("min_p", -0.1),
    ("min_p", 1.1),
    ("repetition_penalty", 0),
    ("repetition_penalty", 1e-50),
    ("repetition_penalty", 11),
    ("presence_penalty", -2.1),
    ("presence_penalty", 2.1),
    ("frequency_penalty", -2.1),
    ("frequency_penalty", "a"),
    ("logit_bias", []),
    ("logit_bias", {"a": 1}),
    ("logit_bias", {"1": 101}),
    ("logit_bias", {"1": "x"}),
    ("logit_bias", {"-1": 1}),
    ("logit_bias", {"01": 1}),
    ("logit_bias", {"9" * 5000: 1}),
    ("logit_bias", {str(token): 1 for token in range(1025)}),
    ("temperature", 10**400),
    ("ignore_eos", 1),
    ("stop_token_ids", 5),
    ("stop_token_ids", [-1]),
    ("stop_token_ids", ["5"]),
    ("user", 5),
    ("stream_options", True),
]


@pytest.mark.parametrize(("field", "value"), WRONG, ids=lambda value: str(value)[:24])
@pytest.mark.parametrize(
    ("parse", "base"), [(parse_chat, CHAT), (parse_completion, COMPLETION)], ids=["chat", "text"]
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    field: str, value: Any, parse: Any, base: dict[str, Any]
) -> None:
    error = refused(base | {field: value}, parse)
    assert error.param == field
    assert error.message.startswith(field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", []),
        ("messages", "hi"),
        ("messages", [7]),
        ("messages", [{"role": "robot", "content": "x"}]),
        ("messages", [{"role": "tool", "content": "x"}]),
        ("messages", [{"content": "x"}]),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "user", "content": 7}]),
        ("messages", [{"role": "user", "content": None}]),
        ("messages", [{"role": "user", "content": "x", "extra": 1}]),
        ("messages", [{"role": "user", "content": [{"type": "text"}]}]),
        ("messages", [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]),
        ("logprobs", 1),
        ("top_logprobs", 21),
        ("top_logprobs", 3),
        ("max_completion_tokens", 0),
    ],
    ids=lambda value: str(value)[:40],
)
def test_chat_fields(field: str, value: Any) -> None:
    error = refused(CHAT | {field: value})
    assert error.param == field
    assert error.message.startswith(field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", []),
        ("prompt", [[]]),
        ("prompt", 7),
        ("prompt", [1.5]),
        ("prompt", ["a", 1]),
        ("prompt", [-1]),
        ("logprobs", True),
        ("logprobs", 21),
    ],
    ids=lambda value: str(value)[:40],
)
def test_completion_fields(field: str, value: Any) -> None:
    error = refused(COMPLETION | {field: value}, parse_completion)
    assert error.param == field


@pytest.mark.parametrize("field", ["model", "messages"])
def test_a_missing_field_is_named(field: str) -> None:
    error = refused({name: value for name, value in CHAT.items() if name != field})
    assert (error.param, error.code) == (field, "missing_required_parameter")


@pytest.mark.parametrize(
    "field",
    ["tools", "functions", "tool_choice", "audio", "best_of", "echo", "suffix", "reasoning_effort"],
)
def test_what_does_nothing_here_is_refused_by_name(field: str) -> None:
    error = refused(CHAT | {field: 1})
    assert (error.param, error.code) == (field, "unsupported_parameter")


def of_openai(*parts: Any) -> list[str]:
    """All parameters that the official client knows for an endpoint."""
    return sorted({name for part in parts for name in part.__annotations__})


CHAT_PARAMETERS = of_openai(
    completion_create_params.CompletionCreateParamsBase,
    completion_create_params.CompletionCreateParamsNonStreaming,
)
TEXT_PARAMETERS = of_openai(
    text_create_params.CompletionCreateParamsBase,
    text_create_params.CompletionCreateParamsNonStreaming,
)


@pytest.mark.parametrize(
    ("model", "parse", "base", "parameters"),
    [
        pytest.param(ChatCompletionRequest, parse_chat, CHAT, CHAT_PARAMETERS, id="chat"),
        pytest.param(CompletionRequest, parse_completion, COMPLETION, TEXT_PARAMETERS, id="text"),
    ],
)
def test_no_parameter_of_openai_is_ignored(
    model: Any, parse: Any, base: dict[str, Any], parameters: list[str]
) -> None:
    taken = {field.alias or name for name, field in model.model_fields.items()}
    for name in parameters:
        if name not in taken:
            error = refused(base | {name: 1}, parse)
            assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    "value", [{"type": "json_object"}, {"type": "json_schema", "json_schema": {}}, "text"]
)
def test_answers_are_text_only(value: Any) -> None:
    error = refused(CHAT | {"response_format": value})
    assert (error.param, error.code) == ("response_format", "unsupported_parameter")


def test_an_unknown_field_is_refused_with_the_nearest_name() -> None:
    error = refused(CHAT | {"temperatur": 1})
    assert (error.param, error.code) == ("temperatur", "unknown_parameter")
    assert "'temperature'" in error.message


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"7", id="number"),
        pytest.param(b'{"model": NaN}', id="NaN"),
        pytest.param(b'{"model": -Infinity}', id="Infinity"),
        pytest.param(b'{"seed": ' + b"9" * 5000 + b"}", id="a number of 5,000 digits"),
        pytest.param(b"\xff\xfe", id="not UTF-8"),
        pytest.param('{"model": "m"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"model": "m"}', id="a byte order mark"),
        pytest.param(b'{"user": "\xed\xa0\x80"}', id="a surrogate in UTF-8"),
        pytest.param(b'{"user": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"\\uDFFF": 1}', id="half a surrogate pair as a key"),
        pytest.param(b"[" * 100_000, id="too deep"),
        pytest.param(b'{"model": "m", "model": "n"}', id="a key twice"),
        pytest.param(b'{"messages": [{"role": "user", "role": "user"}]}', id="a key twice, deeper"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    assert refused(body).code == "invalid_json"


def test_whole_surrogate_pairs_are_characters() -> None:
    body = b'{"model": "m", "prompt": "\\ud83d\\ude00"}'
    assert parse_completion(body, None).prompts == ["\U0001f600"]


@pytest.mark.parametrize("value", [["x" * 10**6], "x" * 10**6, {"x" * 10**6: 1}])
def test_an_error_repeats_little_of_what_was_sent(value: Any) -> None:
    for field in ("temperature", "messages", "logit_bias", "seed", "x" * 1000):
        error = refused(CHAT | {field: value})
        assert len(error.message) < 400
        assert len(error.param or "") <= 64


def test_a_body_of_another_type_is_refused() -> None:
    error = refused(CHAT, content_type="text/plain", status=415)
    assert error.code == "invalid_content_type"
    assert "application/json" in error.message


def test_fields_that_exclude_each_other() -> None:
    assert refused(CHAT | {"max_tokens": 1, "max_completion_tokens": 1}).param == "max_tokens"
    assert refused(CHAT | {"stream_options": {"include_usage": True}}).param == "stream_options"


def test_null_means_left_out() -> None:
    request = parse_chat(json.dumps(CHAT | {"temperature": None, "tools": None}).encode(), None)
    assert request.temperature == 1.0


def test_everything_that_samples_reaches_the_workers() -> None:
    asked = {
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.25,
        "min_p": 0.125,
        "repetition_penalty": 1.5,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "logit_bias": {"7": -1},
        "stop_token_ids": [9],
        "ignore_eos": True,
        "logprobs": True,
        "top_logprobs": 2,
    }
    sampling = parse_chat(json.dumps(CHAT | asked).encode(), None).sampling(seed=5, max_tokens=8)
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.5, 3, 0.25)
    assert (sampling.min_p, sampling.repetition_penalty) == (0.125, 1.5)
    assert (sampling.presence_penalty, sampling.frequency_penalty) == (0.5, -0.5)
    assert dict(sampling.logit_bias) == {7: -1}
    assert list(sampling.stop_token_ids) == [9]
    assert sampling.ignore_eos
    assert (sampling.logprobs, sampling.seed, sampling.max_tokens) == (2, 5, 8)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("hi", ["hi"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
    ids=["text", "texts", "tokens", "lists of tokens"],
)
def test_a_prompt_has_four_forms(prompt: Any, expected: Any) -> None:
    assert parse_completion(json.dumps(COMPLETION | {"prompt": prompt}).encode(), None).prompts == (
        expected
    )


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    asked = CHAT | {"messages": [{"role": "developer", "content": parts}]}
    assert parse_chat(json.dumps(asked).encode(), None).messages == [
        {"role": "system", "content": "a\nb"}
    ]
