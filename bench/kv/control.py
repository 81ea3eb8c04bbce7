"""How long a control call takes while bulk moves: made by a process of its own, as peers are.

`python -m bench.kv.control TRANSPORT...` measures beside each: the way into a namespace whose
loopback is another link.
"""

import asyncio
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import grpc.aio

from bench.kv.link import run_on_link
from bench.kv.overlap import LLAMA_3_8B
from bench.kv.pair import Pair, pair
from splitwise_core.rpc import kv_pb2
from splitwise_core.rpc.channel import OPTIONS
from splitwise_core.rpc.kv_pb2_grpc import KvPeerStub

BULK_TOKENS: Final = 4096  # 512 MiB of Llama-3-8B: Reserve and Commit do not count any more
CONTROL_S: Final = 5.0
EVERY_S: Final = 0.005
START_S: Final = 60.0


async def control(
    measured: Pair, what: str, move: Callable[[], Coroutine[None, None, object]]
) -> float:
    """P99 of a Renew to the sidecar that receives, while moves follow each other; in ms."""
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    asked = (measured.address, measured.token.epoch, theirs)
    caller = spawn.Process(target=_call, args=asked, daemon=True)
    caller.start()
    theirs.close()  # ours is at its end when the caller is
    try:
        await asyncio.to_thread(_next, ours)  # it is ready
        telling = asyncio.create_task(asyncio.to_thread(_next, ours))
        while not telling.done():
            await move()
        times_ms = telling.result()
    finally:
        caller.kill()
        caller.join()
    p50, p99 = statistics.median(times_ms), statistics.quantiles(times_ms, n=100)[98]
    print(f"control calls during {what}: P50 {p50:.2f} ms, P99 {p99:.2f} ms", flush=True)
    return p99


def _next(ours: Connection) -> list[float]:
    """What the caller says next. Raises TimeoutError, and EOFError when it has ended."""
    if not ours.poll(START_S):
        raise TimeoutError(f"the process that makes control calls said nothing for {START_S} s")
    said: list[float] = ours.recv()
    return said


def _call(address: str, epoch: int, tell: Connection) -> None:
    asyncio.run(_calls(address, epoch, tell))


async def _calls(address: str, epoch: int, tell: Connection) -> None:
    """Says when the first call is answered, and in the end how long each of the others took."""
    times_ms: list[float] = []
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        renew = KvPeerStub(channel).Renew
        request = kv_pb2.RenewRequest(epoch=epoch)
        await renew(request)
        tell.send(times_ms)
        over = time.perf_counter() + CONTROL_S
        while time.perf_counter() < over:
            began = time.perf_counter()
            await renew(request)
            times_ms.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(EVERY_S)
    tell.send(times_ms)


async def control_on_link(transports: Sequence[str]) -> None:
    """The same on the link of `bench.kv.link`, printed. Raises CalledProcessError."""
    await run_on_link("bench.kv.control", *transports)


async def main(transports: Sequence[str]) -> None:
    """Measures beside each of the transports."""
    with tempfile.TemporaryDirectory(prefix="kv-") as place:
        for name in transports:
            async with pair(name, LLAMA_3_8B, BULK_TOKENS, Path(place)) as measured:
                await control(measured, name, partial(measured.move, BULK_TOKENS))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
