"""Bodies that are no JSON object are refused; what is taken reaches the workers as it was meant."""

import json
from typing import Any

import pytest

from splitwise_router.api.requests import parse_chat, parse_completion
from tests.router.refusals import CHAT, COMPLETION, refused


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
