"""A server of completions that answers as a test wants it to, over real sockets."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

ANSWERS_WITHIN_S: Final = 30.0


@dataclass(slots=True)
class Exchange:
    """One completion that was asked for, and the connection that its answer goes to."""

    asked: Mapping[str, Any]
    writer: asyncio.StreamWriter
    number: int  # from 0, in order of arrival

    def say(self, status: int, document: Any, headers: str = "") -> None:
        """A whole answer."""
        body = json.dumps(document).encode()
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self.writer.write(head.encode() + body)

    def begin(self) -> None:
        """The head of a stream."""
        kind = b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
        self.writer.write(b"HTTP/1.1 200 OK\r\n" + kind + b"\r\n")

    def send(self, data: bytes) -> None:
        """Bytes of a stream."""
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, document: Any) -> None:
        """One event."""
        self.send(b"data: " + json.dumps(document).encode() + b"\n\n")

    def text(self, text: str) -> None:
        """An event with text."""
        self.event({"choices": [{"index": 0, "text": text, "finish_reason": None}]})

    def finish(self, tokens: int) -> None:
        """The usage, and the end of a whole stream."""
        self.event({"choices": [], "usage": {"completion_tokens": tokens}})
        self.send(b"data: [DONE]\n\n")
        self.writer.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """The end of the connection, in the middle."""
        self.writer.transport.abort()

    def right(self) -> list[str]:
        """The words that the tiny model would answer with: it counts on."""
        last = int(self.asked["prompt"].split()[-1])
        return [f" {(last + 1 + i) % 200}" for i in range(self.asked["max_tokens"])]

    def answer(self, words: list[str]) -> None:
        """A whole stream of these words."""
        self.begin()
        for word in words:
            self.text(word)
        self.finish(len(words))


Behaviour = Callable[[Exchange], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """What was asked so far, and where."""

    url: str
    asked: list[Mapping[str, Any]] = field(default_factory=list)


@contextmanager
def serving(behaviour: Behaviour, model: str = "tiny", context: int = 2048) -> Iterator[Server]:
    """A server in a thread of its own: `behaviour` answers each completion."""
    loop = asyncio.new_event_loop()
    server = Server("")

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                length = head.partition("content-length: ")[2].partition("\r\n")[0]
                body = await reader.readexactly(int(length or 0))
                exchange = Exchange(json.loads(body or b"{}"), writer, len(server.asked))
                if head.startswith("get"):
                    card = {"id": model, "max_model_len": context}
                    exchange.say(200, {"data": [card]})
                else:
                    server.asked.append(exchange.asked)
                    async with asyncio.timeout(ANSWERS_WITHIN_S):
                        await behaviour(exchange)

    async def start() -> asyncio.Server:
        return await asyncio.start_server(connected, "127.0.0.1", 0)

    listening = loop.run_until_complete(start())
    port = listening.sockets[0].getsockname()[1]
    server.url = f"http://127.0.0.1:{port}"
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_end(listening), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _end(listening: asyncio.Server) -> None:
    listening.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
