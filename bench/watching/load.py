"""What the processes are asked: completions that are streamed, as they go over the socket."""

import asyncio
import json
import socket
import time

PROMPT = "codes: the code of teru 7; the code of libe 42; ? libe"
AT_ONCE = 16


def http_request(max_tokens: int) -> bytes:
    """A streamed completion."""
    body = {
        "model": "tiny",
        "prompt": PROMPT,
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    content = json.dumps(body).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def streams(port: int, count: int, max_tokens: int) -> None:
    """So many streams to their ends, AT_ONCE at a time."""
    left = iter(range(count))

    async def one_after_another() -> None:
        for _ in left:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(http_request(max_tokens))
            answer = await reader.read(-1)
            assert b"[DONE]" in answer, answer[-300:]
            writer.close()

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))


def first_token_ns(port: int) -> tuple[int, int]:
    """When a stream of two tokens was asked for, and when its first event came, by the monotonic
    clock of all processes. It is read to its end."""
    with socket.create_connection(("127.0.0.1", port)) as asking:
        answer = b""
        began = time.monotonic_ns()
        asking.sendall(http_request(2))
        while b"data: " not in answer:
            answer += _more(asking)
        first = time.monotonic_ns()
        while not answer.endswith(b"0\r\n\r\n"):
            answer += _more(asking)
    assert b"[DONE]" in answer, answer[-300:]
    return began, first


def _more(asking: socket.socket) -> bytes:
    received = asking.recv(65536)
    assert received, "the router has hung up"
    return received
