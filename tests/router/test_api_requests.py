"""Fields that the API does not take are refused, each by its name."""

from typing import Any

import pytest
from openai.types import completion_create_params as text_create_params
from openai.types.chat import completion_create_params

from splitwise_router.api.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    parse_chat,
    parse_completion,
)
from tests.router.refusals import CHAT, COMPLETION, refused

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


def test_fields_that_exclude_each_other() -> None:
    assert refused(CHAT | {"max_tokens": 1, "max_completion_tokens": 1}).param == "max_tokens"
    assert refused(CHAT | {"stream_options": {"include_usage": True}}).param == "stream_options"
