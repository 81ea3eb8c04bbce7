"""Bodies that nobody thought of: an answer or an error in OpenAI's form, never a bug."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from splitwise_router.api.requests import ChatCompletionRequest, CompletionRequest
from tests.support.door import BASES, CHAT, TEXT, Body, Door, error_of

pytestmark = pytest.mark.e2e

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
KNOWN = sorted(
    {
        field.alias or name
        for model in (ChatCompletionRequest, CompletionRequest)
        for name, field in model.model_fields.items()
    }
    - {"max_tokens", "max_completion_tokens", "n", "stream"}  # they would cost time
)
FIELDS = st.dictionaries(st.sampled_from(KNOWN) | st.text(max_size=12), VALUES, max_size=4)


def is_well_answered(answer: httpx.Response) -> None:
    if answer.status_code == 200:
        assert answer.headers["content-type"].startswith(("application/json", "text/event-stream"))
    else:
        assert 400 <= answer.status_code < 500, answer.text
        error_of(answer)


FUZZ = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


SAMPLING = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 3)},
    optional={
        "temperature": st.floats(0, 2),
        "top_p": st.floats(1e-6, 1),
        "top_k": st.integers(-1, 2**31 - 1),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(0.01, 10),
        "presence_penalty": st.floats(-2, 2),
        "frequency_penalty": st.floats(-2, 2),
        "seed": st.integers(-(2**63), 2**63 - 1),
        "logit_bias": st.dictionaries(
            st.integers(0, 63).map(str), st.floats(-100, 100), max_size=64
        ),
        "stop_token_ids": st.lists(st.integers(0, 63), max_size=64),
        "stop": st.text(min_size=1, max_size=5) | st.lists(st.text(min_size=1), max_size=4),
        "ignore_eos": st.booleans(),
        "stream": st.booleans(),
        "n": st.integers(1, 2),
    },
)


@FUZZ
@given(path=st.sampled_from([CHAT, TEXT]), asked=SAMPLING)
def test_whatever_is_in_range_is_answered(door: Door, path: str, asked: Body) -> None:
    answer = door.http.post(path, content=json.dumps(BASES[path] | asked).encode())
    assert answer.status_code == 200, answer.text
    assert '"error"' not in answer.text


@FUZZ
@given(path=st.sampled_from([CHAT, TEXT]), changes=FIELDS)
def test_a_good_body_with_anything_changed(door: Door, path: str, changes: Body) -> None:
    body = json.dumps(BASES[path] | changes).encode()
    is_well_answered(door.http.post(path, content=body))


@FUZZ
@given(path=st.sampled_from([CHAT, TEXT]), data=st.data())
def test_a_good_body_with_bytes_changed(door: Door, path: str, data: st.DataObject) -> None:
    body = bytearray(json.dumps(BASES[path]).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place : place + 1] = data.draw(st.binary(max_size=3))
    is_well_answered(door.http.post(path, content=bytes(body)))


@FUZZ
@given(path=st.sampled_from([CHAT, TEXT]), body=VALUES)
def test_any_json_at_all(door: Door, path: str, body: Any) -> None:
    is_well_answered(door.http.post(path, content=json.dumps(body).encode()))
