"""Bodies that are no JSON, too long, of another type or cut off, and what is not even HTTP."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.cluster import Cluster, all_blocks_are_free
from tests.support.door import BASES, CHAT, JSON, TEXT, WHOLE_BODY, Door, error_of

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(WHOLE_BODY[:-5], id="cut off"),
        pytest.param(WHOLE_BODY + b"x", id="more behind it"),
        pytest.param(b"\xff" + WHOLE_BODY, id="not UTF-8"),
        pytest.param(json.dumps(BASES[TEXT]).encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + WHOLE_BODY, id="a byte order mark"),
        pytest.param(b'{"model": "tiny", "prompt": "x", "temperature": NaN}', id="NaN"),
        pytest.param(b'{"model": "tiny", "prompt": "x", "seed": Infinity}', id="Infinity"),
        pytest.param(b'{"seed": ' + b"1" * 5000 + b"}", id="5,000 digits"),
        pytest.param(b"[" * 100_000, id="brackets without end"),
        pytest.param(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, id="objects in objects"),
        pytest.param(b'{"model": "tiny", "model": "tiny", "prompt": "x"}', id="a key twice"),
        pytest.param(b'{"model": "tiny", "prompt": "\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"\\udfff": 1}', id="half a surrogate pair as a key"),
        pytest.param(b'{"model": "tiny", "prompt": "a\x00b"}', id="a raw null byte"),
        pytest.param(b"{'model': 'tiny'}", id="single quotes"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b"null", id="null"),
        pytest.param(b"model=tiny&prompt=x", id="a form"),
    ],
)
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_body_that_is_no_json_object(door: Door, path: str, body: bytes) -> None:
    error = door.refused(path, body)
    assert (error["param"], error["code"]) == (None, "invalid_json")


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ('"temperature": 1e999', "temperature"),
        ('"logit_bias": {"1": -1e999}', "logit_bias"),
        ('"max_tokens": 1e999', "max_tokens"),
        ('"seed": 123456789012345678901234567890', "seed"),
        (
            '"temperature": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]',
            "temperature",
        ),
    ],
    ids=["a float", "a bias", "an integer", "30 digits", "lists in lists"],
)
def test_numbers_beyond_all_bounds(door: Door, text: str, param: str) -> None:
    body = f'{{"model": "tiny", "prompt": "x", {text}}}'.encode()
    assert door.refused(TEXT, body)["param"] == param


@pytest.mark.parametrize("depth", range(880, 1000, 4))
def test_no_depth_of_nesting_is_a_bug(door: Door, depth: int) -> None:
    body = b'{"model": "tiny", "prompt": "x", "user": %s%s}' % (b"[" * depth, b"]" * depth)
    assert door.refused(TEXT, body)["code"] in ("invalid_json", "invalid_type")


def test_null_bytes_in_text_are_text(door: Door) -> None:
    answer = door.http.post(TEXT, json=BASES[TEXT] | {"prompt": "1\x002", "stop": "\x00"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_a_body_of_another_type(door: Door, kind: str) -> None:
    error = door.refused(TEXT, BASES[TEXT], 415, headers={"content-type": kind})
    assert error["code"] == "invalid_content_type"
    assert "application/json" in error["message"]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", ""])
def test_spellings_of_the_right_type(door: Door, kind: str) -> None:
    answer = door.http.post(TEXT, content=WHOLE_BODY, headers={"content-type": kind})
    assert answer.status_code == 200, answer.text


def chunks(total: int) -> Iterator[bytes]:
    yield b'{"prompt": "'
    for _ in range(total // 65536):
        yield b"x" * 65536


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "in chunks"])
def test_a_body_over_the_limit(door: Door, chunked: bool) -> None:
    limit = 2**21
    content = chunks(2 * limit) if chunked else b"x" * (limit + 1)
    answer = httpx.post(door.url + TEXT, content=content, headers=JSON, timeout=30)
    assert answer.status_code == 413
    error = error_of(answer)
    assert error["code"] == "request_too_large"
    assert "router.maxBodyBytes" in error["message"]


def test_an_announced_size_is_refused_before_it_is_sent(door: Door) -> None:
    head = f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-length: {10**12}\r\n\r\n"
    assert b" 413 " in door.says(head.encode(), until=b"request_too_large")


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, id="TLS"),
        pytest.param(b"hello\r\n\r\n", id="text"),
        pytest.param(b"GET / HTTP/9.9\r\n\r\n", id="a version that is none"),
        pytest.param(
            f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".encode(), id="a size"
        ),
        pytest.param(
            f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".encode(),
            id="a chunk",
        ),
    ],
)
def test_what_is_not_http(door: Door, sent: bytes) -> None:
    assert door.says(sent, until=b"\r\n").startswith((b"HTTP/1.1 400 ", b""))
    door.serves()


def test_half_a_body_and_then_nobody(door: Door, cluster: Cluster) -> None:
    head = f"POST {TEXT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(WHOLE_BODY)}\r\n\r\n"
    host, _, port = door.url.removeprefix("http://").rpartition(":")
    for _ in range(50):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(head.encode() + WHOLE_BODY[:20])
    all_blocks_are_free(cluster)
