"""A server process that streams answers as our router does, a token an event, as fast as it can."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

import uvloop

from splitwise_router.api.responses import DONE, About, ChunkWriter

HEAD: Final = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class NoTokenizer:
    """What a writer of plain text asks for, and never uses."""

    def token_text(self, token: int) -> str:
        """Nothing."""
        return ""

    def token_bytes(self, token: int) -> list[int]:
        """Nothing."""
        return []


def chunk(data: bytes) -> bytes:
    """As it goes over the socket."""
    return b"%x\r\n%s\r\n" % (len(data), data)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One stream of a word a step, as right as the tiny model's; the other streams take turns."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    asked = json.loads(await reader.readexactly(int(length)))
    last = int(asked["prompt"].split()[-1])
    events = ChunkWriter(
        About("completion", "cmpl-0", 0, "tiny"), 0, NoTokenizer(), include_usage=True
    )
    writer.write(HEAD)
    for number in range(asked["max_tokens"]):
        writer.write(chunk(events.text(f" {(last + 1 + number) % 200}")))
        await writer.drain()
        await asyncio.sleep(0)
    writer.write(chunk(DONE) + b"0\r\n\r\n")
    writer.close()


def serve(told: Connection) -> None:
    """Runs the server and tells its port."""

    async def forever() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(forever())


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """The URL of a server in a process of its own."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.kill()
