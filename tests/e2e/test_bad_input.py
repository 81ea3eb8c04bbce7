"""Every field of both endpoints, wrong in every way: a 400 that names the field and the fix."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.door import BASES, CHAT, TEXT, Door

pytestmark = pytest.mark.e2e

NUMBERS = ["1", True, [], {}]
WHOLE = [1.5, 1.0, *NUMBERS]
TEXTS = [7, 1.5, True, [], {}]
FLAGS = ["true", "yes", 1, 0, [], {}]

BOTH: dict[str, list[Any]] = {
    "model": ["", *TEXTS],
    "stream": FLAGS,
    "stream_options": [True, "include_usage", [], {"include_usage": 1}, {"include_obfuscation": 1}],
    "n": [0, -1, 9, 10**30, *WHOLE],
    "seed": [2**63, -(2**63) - 1, *WHOLE],
    "stop": ["", 7, True, {}, [7], [""], ["a", None], ["a"] * 5],
    "max_tokens": [0, -1, *WHOLE],
    "temperature": [-0.1, 2.1, 10**300, *NUMBERS],
    "top_p": [0, -1, 1.1, 1e-50, *NUMBERS],
    "top_k": [-2, 2**31, *WHOLE],
    "min_p": [-0.1, 1.1, *NUMBERS],
    "repetition_penalty": [0, -1, 10.1, 1e-50, *NUMBERS],
    "presence_penalty": [-2.1, 2.1, *NUMBERS],
    "frequency_penalty": [-2.1, 2.1, *NUMBERS],
    "logit_bias": [
        [],
        "1",
        True,
        {"a": 1},
        {"-1": 1},
        {"1.5": 1},
        {"1": 101},
        {"1": "1"},
        {"1": None},
        {"100000": 1},
    ],
    "ignore_eos": FLAGS,
    "stop_token_ids": [7, "7", True, {}, [-1], [1.5], ["7"], [2**31], [1] * 65, [100_000]],
    "user": TEXTS,
}
ONLY: dict[str, dict[str, list[Any]]] = {
    CHAT: {
        "messages": [
            "hi",
            7,
            {},
            [],
            ["hi"],
            [{}],
            [{"role": "user"}],
            [{"content": "x"}],
            [{"role": "robot", "content": "x"}],
            [{"role": 7, "content": "x"}],
            [{"role": "tool", "content": "x", "tool_call_id": "1"}],
            [{"role": "user", "content": None}],
            [{"role": "user", "content": 7}],
            [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
            [{"role": "user", "content": [{"type": "text", "text": 7}]}],
            [{"role": "user", "content": "x", "name": 7}],
            [{"role": "assistant", "content": "x", "tool_calls": []}],
        ],
        "max_completion_tokens": [0, -1, *WHOLE],
        "logprobs": [5, 0, "true", [], {}],
        "top_logprobs": [-1, 21, *WHOLE],
        "response_format": [
            "text",
            {},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {}},
        ],
    },
    TEXT: {
        "prompt": [
            7,
            True,
            {},
            [],
            [[]],
            [1, "a"],
            ["a", 1],
            [[1], []],
            [[1], "a"],
            [1.5],
            [-1],
            [2**31],
            [100_000],
            [[1, 100_000]],
            ["a"] * 129,
        ],
        "logprobs": [True, -1, 21, "1", 1.5],
    },
}


def cases() -> Iterator[Any]:
    for path in BASES:
        for field, values in {**BOTH, **ONLY[path]}.items():
            for value in values:
                told = f"{path.rpartition('/v1/')[2]} {field}={json.dumps(value)[:40]}"
                yield pytest.param(path, field, value, id=told)


@pytest.mark.parametrize(("path", "field", "value"), list(cases()))
def test_a_wrong_value_is_refused_by_the_name_of_its_field(
    door: Door, path: str, field: str, value: Any
) -> None:
    needed = {"logprobs": True} if field == "top_logprobs" else {}
    needed |= {"stream": True} if field == "stream_options" else {}
    base = {
        k: v
        for k, v in BASES[path].items()
        if (k, field) != ("max_tokens", "max_completion_tokens")
    }
    error = door.refused(path, base | needed | {field: value})
    assert str(error["param"]).partition(".")[0] == field
    assert error["message"].startswith(field)
    assert error["code"]


@pytest.mark.parametrize(
    ("path", "field"), [(CHAT, "model"), (CHAT, "messages"), (TEXT, "model"), (TEXT, "prompt")]
)
@pytest.mark.parametrize("null", [True, False], ids=["null", "left out"])
def test_what_is_required_is_named(door: Door, path: str, field: str, null: bool) -> None:
    body = {name: value for name, value in BASES[path].items() if name != field}
    error = door.refused(path, body | ({field: None} if null else {}))
    assert (error["param"], error["code"]) == (field, "missing_required_parameter")


@pytest.mark.parametrize(
    "field",
    [
        "audio",
        "best_of",
        "chat_template_kwargs",
        "echo",
        "function_call",
        "functions",
        "guided_json",
        "metadata",
        "min_tokens",
        "modalities",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "reasoning_effort",
        "safety_identifier",
        "service_tier",
        "store",
        "suffix",
        "tool_choice",
        "tools",
        "use_beam_search",
        "verbosity",
        "web_search_options",
    ],
)
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_what_does_nothing_here_is_refused_by_name(door: Door, path: str, field: str) -> None:
    for value in (1, False, [], "auto"):
        error = door.refused(path, BASES[path] | {field: value})
        assert (error["param"], error["code"]) == (field, "unsupported_parameter")
        assert error["message"].startswith(f"{field}: ")
